"""Accounts, projects, keys and revocations."""

import sqlalchemy as sa
from alembic import op

from polyroute.mesh.database import UnusableDatabaseError

revision = "0001"
down_revision = None

PROPERTIES = sa.table("properties", sa.column("name"), sa.column("value"))
BEFORE = ("1", "2")  # how versions of the program from before there were revisions marked their databases


def upgrade() -> None:
    """Accounts, projects, keys and revocations."""
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        if_not_exists=True,
    )
    op.create_table(
        "properties",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=256), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_properties")),
        if_not_exists=True,
    )
    op.create_table(
        "projects",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_projects_account_id_accounts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        if_not_exists=True,
    )
    op.create_index(op.f("ix_projects_account_id"), "projects", ["account_id"], unique=False, if_not_exists=True)
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=True),
        sa.Column("revoked", sa.BigInteger(), nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_keys_project_id_projects")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_keys_digest")),
        sa.UniqueConstraint("request_id", name=op.f("uq_keys_request_id")),
        if_not_exists=True,
    )
    op.create_index(op.f("ix_keys_prefix"), "keys", ["prefix"], unique=False, if_not_exists=True)
    op.create_index("ix_keys_project_id_id", "keys", ["project_id", "id"], unique=False, if_not_exists=True)
    op.create_table(
        "revocations",
        sa.Column("revision", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name=op.f("fk_revocations_key_id_keys")),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_revocations")),
        sa.UniqueConstraint("key_id", name=op.f("uq_revocations_key_id")),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    _mark()


def _mark() -> None:
    """Marks the database for those versions of the program, and refuses one that a stranger marked."""
    connection = op.get_bind()
    found = connection.scalar(sa.select(PROPERTIES.c.value).where(PROPERTIES.c.name == "schema_version"))
    if found is None:
        op.bulk_insert(PROPERTIES, [{"name": "schema_version", "value": "1"}])
    elif found not in BEFORE:
        raise UnusableDatabaseError("the database was written by another version of polyroute")


def downgrade() -> None:
    """Takes that back."""
    op.drop_table("revocations")
    op.drop_index("ix_keys_project_id_id", table_name="keys")
    op.drop_index(op.f("ix_keys_prefix"), table_name="keys")
    op.drop_table("keys")
    op.drop_index(op.f("ix_projects_account_id"), table_name="projects")
    op.drop_table("projects")
    op.drop_table("properties")
    op.drop_table("accounts")
