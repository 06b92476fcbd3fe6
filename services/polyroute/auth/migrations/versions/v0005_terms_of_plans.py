"""What plans give beside money: limits, and what they open."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

TABLES = ("plans", "subscriptions")


def upgrade() -> None:
    """Adds the terms; those that there are say nothing of it."""
    for table in TABLES:
        op.add_column(table, sa.Column("terms", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Drops them: what bounded subscribers beside money bounds them no more."""
    for table in reversed(TABLES):
        op.drop_column(table, "terms")
