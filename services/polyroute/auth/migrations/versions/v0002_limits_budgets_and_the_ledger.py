"""Limits, budgets and the ledger."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from polyroute.mesh.migrations.steps import missing_columns

revision = "0002"
down_revision = "0001"

PROPERTIES = sa.table("properties", sa.column("name"), sa.column("value"))
MARK = sa.update(PROPERTIES).where(PROPERTIES.c.name == "schema_version")
COLUMNS: dict[str, list[sa.Column[Any]]] = {
    "accounts": [sa.Column("billing_mode", sa.SmallInteger(), server_default="1", nullable=False)],
    "keys": [
        sa.Column("scope", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("creator", sa.String(length=40), server_default="", nullable=False),
    ],
}


def upgrade() -> None:
    """Limits, budgets and the ledger."""
    op.create_table(
        "audit_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("resource", sa.String(length=64), nullable=False),
        sa.Column("before", sa.String(), nullable=False),
        sa.Column("after", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index(op.f("ix_audit_events_resource"), "audit_events", ["resource"], unique=False, if_not_exists=True)
    op.create_table(
        "budgets",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("scope", sa.String(length=40), nullable=False),
        sa.Column("period", sa.SmallInteger(), nullable=False),
        sa.Column("time_zone", sa.String(length=64), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("hard", sa.Boolean(), nullable=False),
        sa.Column("prepaid", sa.Boolean(), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("ends", sa.BigInteger(), nullable=True),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budgets")),
        if_not_exists=True,
    )
    op.create_index(op.f("ix_budgets_scope"), "budgets", ["scope"], unique=False, if_not_exists=True)
    op.create_table(
        "checkpoints",
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("settlement", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", "attempt", name=op.f("pk_checkpoints")),
        if_not_exists=True,
    )
    op.create_index(op.f("ix_checkpoints_expires"), "checkpoints", ["expires"], unique=False, if_not_exists=True)
    op.create_table(
        "holds",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("key_id", sa.String(length=40), nullable=False),
        sa.Column("left", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holds")),
        if_not_exists=True,
    )
    op.create_index(op.f("ix_holds_expires"), "holds", ["expires"], unique=False, if_not_exists=True)
    op.create_table(
        "ledger",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("debit", sa.SmallInteger(), nullable=False),
        sa.Column("credit", sa.SmallInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("key_id", sa.String(length=40), nullable=False),
        sa.Column("posted", sa.BigInteger(), nullable=False),
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.Column("price_version", sa.String(length=256), nullable=False),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.Column("deployment", sa.String(length=256), nullable=False),
        sa.Column("note", sa.String(length=256), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger")),
        sa.UniqueConstraint("request_id", "attempt", "kind", "part", name=op.f("uq_ledger_request_id")),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index("ix_ledger_account_id_posted", "ledger", ["account_id", "posted"], unique=False, if_not_exists=True)
    op.create_index("ix_ledger_key_id_posted", "ledger", ["key_id", "posted"], unique=False, if_not_exists=True)
    op.create_index("ix_ledger_project_id_posted", "ledger", ["project_id", "posted"], unique=False, if_not_exists=True)
    op.create_table(
        "limits",
        sa.Column("scope", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("model", sa.String(length=256), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("burst", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "kind", "model", name=op.f("pk_limits")),
        if_not_exists=True,
    )
    op.create_table(
        "seals",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("last_entry", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_seals")),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_table(
        "former_secrets",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("key_id", sa.String(length=40), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name=op.f("fk_former_secrets_key_id_keys")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_former_secrets")),
        if_not_exists=True,
    )
    op.create_index(op.f("ix_former_secrets_key_id"), "former_secrets", ["key_id"], unique=False, if_not_exists=True)
    for table, columns in COLUMNS.items():
        for column in missing_columns(table, columns):
            op.add_column(table, column)
    op.execute(MARK.values(value="2"))


def downgrade() -> None:
    """Takes that back."""
    op.execute(MARK.values(value="1"))
    op.drop_column("keys", "creator")
    op.drop_column("keys", "scope")
    op.drop_column("accounts", "billing_mode")
    op.drop_index(op.f("ix_former_secrets_key_id"), table_name="former_secrets")
    op.drop_table("former_secrets")
    op.drop_table("seals")
    op.drop_table("limits")
    op.drop_index("ix_ledger_project_id_posted", table_name="ledger")
    op.drop_index("ix_ledger_key_id_posted", table_name="ledger")
    op.drop_index("ix_ledger_account_id_posted", table_name="ledger")
    op.drop_table("ledger")
    op.drop_index(op.f("ix_holds_expires"), table_name="holds")
    op.drop_table("holds")
    op.drop_index(op.f("ix_checkpoints_expires"), table_name="checkpoints")
    op.drop_table("checkpoints")
    op.drop_index(op.f("ix_budgets_scope"), table_name="budgets")
    op.drop_table("budgets")
    op.drop_index(op.f("ix_audit_events_resource"), table_name="audit_events")
    op.drop_table("audit_events")
