"""What vendors keep."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "kept_things",
        sa.Column("digest", sa.LargeBinary(length=16), nullable=False),
        sa.Column("key_mark", sa.LargeBinary(length=8), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_kept_things")),
        if_not_exists=True,
    )


def downgrade() -> None:
    """Takes that back: vendors' lists show nothing of what was made until then."""
    op.drop_table("kept_things")
