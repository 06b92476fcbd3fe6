"""Holds: money set aside for a call, or for many calls of an edge, until it is charged, given back or lapses.

A hold moves every budget above its payer in one statement. Who asks again for a hold that was granted gets the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, or_, select

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.money import budgets, included
from polyroute.auth.money.charges import Hold
from polyroute.auth.money.entries import MOST, Book, Entry, Kind, Payer, post
from polyroute.mesh.database import among, among_named
from polyroute.mesh.errors import MeshError

HOLD_SECONDS: Final = 900  # that a hold lasts when nothing else is said: longer than any call
ALLOWANCE_SECONDS: Final = 60  # that calls may be held from an allowance
ARRIVAL_SECONDS: Final = 60  # for the charges of its last calls to arrive
LONGEST_SECONDS: Final = 7200  # that any call can last, with room
LATE_SECONDS: Final = 60  # that a moment may be past when it is told
SLICE_DIVISOR: Final = 100  # of a budget goes into one allowance, while there is plenty
SLICE_LEAST: Final = 50_000_000  # nano-USD: five cents
SLICE_SHARE: Final = 8  # of what is left goes into one allowance at most: the rest is for the other edges

_H: Final = schema.holds.c
_L: Final = schema.ledger.c
_OPEN: Final = select(schema.holds).where(among_named(_H.id, "ids"))  # asked with every batch of charges: made once


@dataclass(frozen=True, slots=True)
class Wanted:
    """A hold that is asked for; nano-USD.

    Attributes:
        id: The call, or the allowance.
        needed: The most it can cost.
        least: With less it is not worth making.
        holder: The process that holds an allowance; empty for a call's own hold.
        expires: When it lapses, microseconds since the Unix epoch; None means in 15 minutes.
        lasts: Seconds from now until it lapses, in the place of that; 0 where it is not given.
    """

    id: str
    payer: Payer
    needed: int
    least: int
    holder: str = ""
    expires: int | None = None
    lasts: float = 0.0


def granted(connection: Connection, hold_id: str) -> int | None:
    """How much a hold was made of; None when it never was."""
    earlier = select(_L.amount).where(_L.request_id == hold_id, _L.attempt == 0, _L.kind == Kind.HOLD)
    amount = connection.scalar(earlier)
    return None if amount is None else int(amount)


def reserve(connection: Connection, wanted: Wanted, now: int, *, slices: bool = False) -> int:
    """Makes a hold that there is none of yet; of how much.

    Args:
        connection: To the database.
        wanted: What is asked for.
        now: Microseconds since the Unix epoch.
        slices: It is for many calls: more than is needed while there is plenty.

    Raises:
        MeshError: REASON_BUDGET_EXHAUSTED.
    """
    if wanted.needed > MOST:  # there is no such budget, and a soft one could not count it
        raise MeshError(errors_pb2.REASON_BUDGET_EXHAUSTED, "no budget can pay for the call")
    found = budgets.of(connection, wanted.payer.path, now)
    plan = included.plan_of(connection, wanted.payer, found)
    amount = budgets.grantable(found, wanted.needed, wanted.least, plan)
    if slices and amount == wanted.needed:
        amount = _slice(budgets.bounds(found, plan), amount)
    if budgets.reserve(connection, wanted.payer.path, amount, plan) != len(found):
        raise MeshError(errors_pb2.REASON_BUDGET_EXHAUSTED, "the budget cannot pay for the call")
    _open(connection, wanted, amount, now)
    return amount


def _slice(bounding: Sequence[budgets.Budget], needed: int) -> int:
    """What goes into an allowance: a part of the budget while there is plenty, and what is needed when there is not."""
    if not bounding:
        return needed
    tightest = min(bounding, key=lambda budget: budget.left)
    wanted = max(SLICE_LEAST, tightest.amount // SLICE_DIVISOR)
    return max(needed, min(wanted, tightest.left // SLICE_SHARE))


def _open(connection: Connection, wanted: Wanted, amount: int, now: int) -> None:
    moved = (Book.AVAILABLE, Book.HELD, amount)
    post(connection, [Entry(Kind.HOLD, wanted.id, 0, 0, *moved, *wanted.payer, now)])
    if amount:
        row = {
            "id": wanted.id,
            **wanted.payer._asdict(),
            "left": amount,
            "holder": wanted.holder,
            "expires": now + round(wanted.lasts * 1e6) if wanted.lasts else believed(wanted.expires, now),
        }
        connection.execute(insert(schema.holds).values(row))


def believed(moment: int | None, now: int) -> int:
    """When something lapses by the clock of an edge; where that clock cannot be right, as if nothing had been said."""
    if moment is None or not -LATE_SECONDS <= (moment - now) / 1_000_000 <= LONGEST_SECONDS:
        return now + HOLD_SECONDS * 1_000_000
    return moment


def lacking(connection: Connection, wanted: Wanted, now: int) -> bool:
    """Whether money is short only because it is held: what is spent nobody can give back."""
    short = _short(connection, wanted, now)
    return bool(short) and all(budget.held and budget.amount - budget.spent >= wanted.least for budget in short)


def tightest(connection: Connection, payer: Payer, now: int) -> budgets.Budget | None:
    """The budget that bounds a payer's calls most; None when none does."""
    found = budgets.look(connection, payer.path, now)
    bounding = budgets.bounds(found, included.plan_of(connection, payer, found))
    return min(bounding, key=lambda budget: budget.left, default=None)


def purses(connection: Connection, wanted: Wanted, now: int) -> set[str]:
    """Whose allowances hold money of the budgets that are short: a key's own holds its account's as well."""
    scopes = [budget.scope for budget in _short(connection, wanted, now)]
    whose = or_(among(_H.key_id, scopes), among(_H.project_id, scopes), among(_H.account_id, scopes))
    rows = connection.execute(select(_H.account_id, _H.project_id, _H.key_id).where(whose, _H.holder != ""))
    return {Payer(*row).path[0] for row in rows}


def _short(connection: Connection, wanted: Wanted, now: int) -> list[budgets.Budget]:
    found = budgets.look(connection, wanted.payer.path, now)
    bounding = budgets.bounds(found, included.plan_of(connection, wanted.payer, found))
    return [budget for budget in bounding if budget.left < wanted.needed]


def of(connection: Connection, ids: Iterable[str]) -> dict[str, Hold]:
    """Those of some holds that are open, by id."""
    return _by_id(connection.execute(_OPEN, {"ids": list(ids)}))


def lapsed(connection: Connection, now: int) -> dict[str, Hold]:
    """Those whose time is over, by id."""
    return _by_id(connection.execute(select(schema.holds).where(_H.expires <= now)))


def of_holder(connection: Connection, holder: str) -> dict[str, Hold]:
    """The allowances of a process, by id."""
    return _by_id(connection.execute(select(schema.holds).where(_H.holder == holder)))


def holders(connection: Connection) -> Sequence[str]:
    """The processes that have allowances."""
    return connection.execute(select(_H.holder).where(_H.holder != "").distinct()).scalars().all()


def returned(connection: Connection, ids: Iterable[str]) -> set[tuple[str, int]]:
    """What was given back of some holds: their ids, and the numbers of the returns."""
    wanted = select(_L.request_id, _L.part).where(among(_L.request_id, ids), _L.kind == Kind.VOID)
    return {(row.request_id, row.part) for row in connection.execute(wanted)}


def _by_id(rows: Iterable[Row[Any]]) -> dict[str, Hold]:
    return {row.id: Hold(Payer(row.account_id, row.project_id, row.key_id), row.left) for row in rows}
