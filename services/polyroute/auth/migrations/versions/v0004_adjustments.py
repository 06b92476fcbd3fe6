"""What usage has to follow: corrections, and charges of calls that were lost."""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

from polyroute.auth.money.outbox import Adjusted, Place, adjustment, by_place

revision = "0004"
down_revision = "0003"

SETTLE: Final = 2
CORRECT: Final = 5
INTERRUPTED: Final = "interrupted/1"
ENTRY: Final = (
    *("kind", "request_id", "attempt", "part", "debit", "credit", "amount", "account_id", "project_id", "key_id"),
    *("posted", "rule", "price_version", "deployment", "model", "cost"),
)
LEDGER: Final = sa.table("ledger", sa.column("id"), *map(sa.column, ENTRY))
ADJUSTMENTS: Final = sa.table("adjustments", *map(sa.column, ("request_id", "attempt", "said")))
STEP: Final = 500  # calls in one statement


def upgrade() -> None:
    """Makes the table, and writes into it what was adjusted before there was one."""
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "adjustments",
        sa.Column("sequence", serial, nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("said", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_adjustments")),
        sa.UniqueConstraint("request_id", "attempt", name=op.f("uq_adjustments_request_id")),
        sqlite_autoincrement=True,
    )
    _write_older(op.get_bind())


def downgrade() -> None:
    """Drops it; the ledger has what it was made of."""
    op.drop_table("adjustments")


def _write_older(connection: sa.Connection) -> None:
    """Every attempt of calls that were corrected or lost; in the order in which that was posted."""
    charges = LEDGER.c.kind.in_((SETTLE, CORRECT))
    special = sa.or_(LEDGER.c.kind == CORRECT, sa.and_(LEDGER.c.kind == SETTLE, LEDGER.c.rule == INTERRUPTED))
    ids = connection.execute(sa.select(LEDGER.c.request_id).where(special).order_by(LEDGER.c.id)).scalars()
    calls = list(dict.fromkeys(ids))
    for start in range(0, len(calls), STEP):
        mine = LEDGER.c.request_id.in_(calls[start : start + STEP])
        rows = connection.execute(sa.select(*(LEDGER.c[name] for name in ENTRY)).where(mine, charges)).all()
        said = [_row(place, entries) for place, entries in by_place(rows).items()]
        connection.execute(sa.insert(ADJUSTMENTS), said)


def _row(place: Place, entries: Sequence[Any]) -> dict[str, Any]:
    said = adjustment(place, Adjusted(entries)).SerializeToString()
    return {"request_id": place[0], "attempt": place[1], "said": said}
