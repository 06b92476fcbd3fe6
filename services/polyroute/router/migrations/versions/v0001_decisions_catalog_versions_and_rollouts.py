"""Decisions, catalog versions and rollouts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Decisions, catalog versions and rollouts."""
    op.create_table(
        "catalog_versions",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_catalog_versions")),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_table(
        "decisions",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("slate", sa.LargeBinary(), nullable=False),
        sa.Column("planned", sa.Text(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_decisions")),
        sa.UniqueConstraint("request_id", name=op.f("uq_decisions_request_id")),
        if_not_exists=True,
    )
    op.create_index(op.f("ix_decisions_time_us"), "decisions", ["time_us"], unique=False, if_not_exists=True)
    op.create_table(
        "rollouts",
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("plan", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("began_us", sa.BigInteger(), nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("judged", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("alias", name=op.f("pk_rollouts")),
        if_not_exists=True,
    )
    op.create_table(
        "slates",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("used_us", sa.BigInteger(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_slates")),
        if_not_exists=True,
    )
    op.create_index(op.f("ix_slates_used_us"), "slates", ["used_us"], unique=False, if_not_exists=True)


def downgrade() -> None:
    """Takes that back."""
    op.drop_index(op.f("ix_slates_used_us"), table_name="slates")
    op.drop_table("slates")
    op.drop_table("rollouts")
    op.drop_index(op.f("ix_decisions_time_us"), table_name="decisions")
    op.drop_table("decisions")
    op.drop_table("catalog_versions")
