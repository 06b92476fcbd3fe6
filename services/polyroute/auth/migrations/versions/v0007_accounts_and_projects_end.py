"""Accounts and projects may be suspended and deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

TABLES = ("accounts", "projects")


def upgrade() -> None:
    """Adds their states; those that there are are active."""
    for table in TABLES:
        op.add_column(table, sa.Column("state", sa.SmallInteger(), nullable=False, server_default="1"))


def downgrade() -> None:
    """Drops them: what was suspended may be used again, and what was deleted is listed, without its keys."""
    for table in reversed(TABLES):
        op.drop_column(table, "state")
