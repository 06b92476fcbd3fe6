"""The log of changes takes what other roles changed, each once; see `schema.audit_events`."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Adds the names under which they are told."""
    op.add_column("audit_events", sa.Column("told_id", sa.String(length=64), nullable=True))
    op.create_index(op.f("ix_audit_events_told_id"), "audit_events", ["told_id"], unique=True)


def downgrade() -> None:
    """Drops the names; the events stay, and the log is whole without them."""
    op.drop_index(op.f("ix_audit_events_told_id"), table_name="audit_events")
    op.drop_column("audit_events", "told_id")
