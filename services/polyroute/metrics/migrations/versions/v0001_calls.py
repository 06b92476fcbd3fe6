"""Calls."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Calls."""
    op.create_table(
        "calls",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("start_us", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("operation", sa.SmallInteger(), nullable=False),
        sa.Column("requested_model", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("deployment", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("stream", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.SmallInteger(), nullable=False),
        sa.Column("http_status", sa.Integer(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("audio_ms", sa.BigInteger(), nullable=False),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.Column("cost_nanos", sa.BigInteger(), nullable=True),
        sa.Column("total_us", sa.BigInteger(), nullable=False),
        sa.Column("first_token_us", sa.BigInteger(), nullable=False),
        sa.Column("overhead_us", sa.BigInteger(), nullable=False),
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calls")),
        sa.UniqueConstraint("request_id", name=op.f("uq_calls_request_id")),
        if_not_exists=True,
    )
    op.create_index(op.f("ix_calls_key_id_start_us"), "calls", ["key_id", "start_us"], unique=False, if_not_exists=True)
    op.create_index(op.f("ix_calls_model_start_us"), "calls", ["model", "start_us"], unique=False, if_not_exists=True)
    op.create_index(
        op.f("ix_calls_project_id_start_us"), "calls", ["project_id", "start_us"], unique=False, if_not_exists=True
    )
    op.create_index(op.f("ix_calls_start_us"), "calls", ["start_us"], unique=False, if_not_exists=True)


def downgrade() -> None:
    """Takes that back."""
    op.drop_index(op.f("ix_calls_start_us"), table_name="calls")
    op.drop_index(op.f("ix_calls_project_id_start_us"), table_name="calls")
    op.drop_index(op.f("ix_calls_model_start_us"), table_name="calls")
    op.drop_index(op.f("ix_calls_key_id_start_us"), table_name="calls")
    op.drop_table("calls")
