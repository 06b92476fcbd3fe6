"""Entries."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the table, unless it is from before there were revisions."""
    op.create_table(
        "idempotency_entries",
        sa.Column("id", sa.LargeBinary(length=32), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("claim", sa.String(length=64), nullable=False),
        sa.Column("lease", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("content_type", sa.String(length=256), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_idempotency_entries")),
        if_not_exists=True,
    )
    op.create_index(
        op.f("ix_idempotency_entries_expires"), "idempotency_entries", ["expires"], unique=False, if_not_exists=True
    )


def downgrade() -> None:
    """Takes that back: within a day nobody would have asked for it any more."""
    op.drop_index(op.f("ix_idempotency_entries_expires"), table_name="idempotency_entries")
    op.drop_table("idempotency_entries")
