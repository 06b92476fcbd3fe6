"""What the ledger charges otherwise than records say, and how far it was read."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Makes the tables; the ledger is read from its beginning."""
    op.create_table(
        "adjustments",
        sa.Column("request_id", sa.LargeBinary(), nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("start_us", sa.BigInteger(), nullable=False),
        sa.Column("said", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", "attempt", name=op.f("pk_adjustments")),
    )
    op.create_index(op.f("ix_adjustments_start_us"), "adjustments", ["start_us"], unique=False)
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_cursors")),
    )


def downgrade() -> None:
    """Drops them; calls and sums keep what was applied, and say the same when they are read again."""
    op.drop_table("cursors")
    op.drop_table("adjustments")
