"""Budgets as rows: counters beside the ledger, moved in the same transactions as its entries."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, bindparam, func, not_, or_, select, update

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.money.entries import OUTSIDE, Book, Payer
from polyroute.auth.money.periods import Period, window, zone
from polyroute.mesh.database import among, among_named
from polyroute.mesh.errors import MeshError

_B: Final = schema.budgets.c
_L: Final = schema.ledger.c
_H: Final = schema.holds.c
_OF_SCOPES: Final = select(schema.budgets).where(among_named(_B.scope, "scopes"))
_OWNERS: Final[Mapping[str, str]] = {"key": "key", "prj": "project", "acc": "account"}


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent in a period; nano-USD, times in microseconds since the Unix epoch."""

    id: str
    scope: str
    period: Period
    time_zone: str
    amount: int
    hard: bool
    prepaid: bool
    started: int
    ends: int | None
    spent: int
    held: int

    @property
    def left(self) -> int:
        """What is neither spent nor held; below nothing when more was charged than could be foreseen."""
        return self.amount - self.spent - self.held


def of(connection: Connection, scopes: Iterable[str], now: int) -> list[Budget]:
    """The budgets of some scopes, in their current periods."""
    listed = list(scopes)
    found = _kept(connection, listed)
    if any(budget.ends is not None and budget.ends <= now for budget in found):
        _turn(connection, listed, now)
        found = _kept(connection, listed)
    return found


def _kept(connection: Connection, scopes: list[str]) -> list[Budget]:
    rows = connection.execute(_OF_SCOPES, {"scopes": scopes})
    return [budget_of(row._mapping) for row in rows]  # noqa: SLF001 - the public name of a row's mapping


def look(connection: Connection, scopes: Iterable[str], now: int) -> list[Budget]:
    """As `of`, without writing: a period that is over counts as begun anew."""
    rows = connection.execute(select(schema.budgets).where(among(_B.scope, scopes)))
    found = [budget_of(row._mapping) for row in rows]  # noqa: SLF001 - the public name of a row's mapping
    return [current(budget, now) for budget in found]


def current(budget: Budget, now: int) -> Budget:
    """The budget in the period that `now` lies in."""
    if budget.ends is None or budget.ends > now:
        return budget
    started, ends = window(budget.period, zone(budget.time_zone), now)
    return replace(budget, started=started, ends=ends, spent=0)


def budget_of(row: RowMapping) -> Budget:
    """The budget that a row holds."""
    return Budget(**{name: row[name] for name in Budget.__slots__} | {"period": Period(row["period"])})


def _turn(connection: Connection, scopes: Iterable[str], now: int) -> None:
    """Begins the next period of budgets whose period is over; what is held stays held."""
    over = select(_B.id, _B.period, _B.time_zone).where(among(_B.scope, scopes), _B.ends <= now)
    for row in (connection.execute(over)).all():
        started, ends = window(Period(row.period), zone(row.time_zone), now)
        values = {"started": started, "ends": ends, "spent": 0}
        connection.execute(update(schema.budgets).where(_B.id == row.id).values(values))


def grantable(budgets: Sequence[Budget], needed: int, least: int, included: Budget | None = None) -> int:
    """What may be held of `needed`: all of it, or what is left if that is at least `least`.

    Args:
        budgets: Those above the payer.
        needed: Nano-USD, as all amounts here.
        least: Less is of no use.
        included: The budget of the plan that alone may pay; see `included.plan_of`.

    Raises:
        MeshError: REASON_BUDGET_EXHAUSTED, not even the least is left.
    """
    hard = bounds(budgets, included)
    if not hard:
        return needed
    tightest = min(hard, key=lambda budget: budget.left)
    if tightest.left >= needed:
        return needed
    if tightest.left < least:
        raise _exhausted(tightest, least, included)
    return tightest.left


def bounds(budgets: Iterable[Budget], included: Budget | None) -> list[Budget]:
    """The budgets that a call must keep to: the hard ones, and that of the plan that alone may pay."""
    return [*(() if included is None else (included,)), *(budget for budget in budgets if budget.hard)]


def _exhausted(budget: Budget, least: int, included: Budget | None) -> MeshError:
    owner = _OWNERS.get(budget.scope.partition("_")[0], "caller")
    metadata = {
        "subject": budget.scope,
        "limit": str(budget.amount),
        "remaining": str(max(0, budget.left)),
        "needed": str(least),
    }
    if budget.ends is not None:
        metadata["reset"] = datetime.fromtimestamp(budget.ends / 1e6, UTC).isoformat()
    if budget is included:
        metadata["cause"] = "spend_class"
        message = "this key may spend only what a plan includes, and that cannot pay for the call"
        return MeshError(errors_pb2.REASON_BUDGET_EXHAUSTED, message, metadata=metadata)
    what = "the balance" if budget.prepaid else "the budget"
    return MeshError(
        errors_pb2.REASON_BUDGET_EXHAUSTED, f"{what} of this {owner} cannot pay for the call", metadata=metadata
    )


def reserve(connection: Connection, scopes: Sequence[str], amount: int, included: Budget | None = None) -> int:
    """Holds `amount` in every budget of the scopes that can bear it, in one statement; how many budgets did."""
    soft = not_(_B.hard) if included is None else and_(not_(_B.hard), _B.id != included.id)
    bears = or_(soft, _B.spent + _B.held <= _B.amount - amount)  # no sum here is beyond 64 bits
    statement = update(schema.budgets).where(among(_B.scope, scopes), bears).values(held=_B.held + amount)
    return (connection.execute(statement)).rowcount


_MOVE: Final = (
    update(schema.budgets)
    .where(_B.scope == bindparam("of_scope"))
    .values(spent=_B.spent + bindparam("of_spent"), held=_B.held + bindparam("of_held"))
)


def move(connection: Connection, spent: Mapping[str, int], held: Mapping[str, int], now: int) -> None:
    """Adds to what was spent and held, by scope; scopes without a budget are left out."""
    scopes = list({**spent, **held})
    if not scopes:
        return
    touched = {budget.scope for budget in of(connection, scopes, now)}
    rows = [
        {"of_scope": scope, "of_spent": spent.get(scope, 0), "of_held": held.get(scope, 0)} for scope in sorted(touched)
    ]
    if rows:
        connection.execute(_MOVE, rows)


def spent_since(connection: Connection, scope: str, started: int) -> int:
    """What the ledger says was spent by a scope since a moment."""
    owner = _owner(scope, _L)
    where = (owner == scope, _L.posted >= started)
    added = select(func.coalesce(func.sum(_L.amount), 0)).where(*where, _L.credit == Book.SPENT)
    taken = select(func.coalesce(func.sum(_L.amount), 0)).where(*where, _L.debit == Book.SPENT)
    return int(connection.scalar(added) or 0) - int(connection.scalar(taken) or 0)


def held_now(connection: Connection, scope: str) -> int:
    """What open holds reserve of a scope."""
    total = select(func.coalesce(func.sum(_H.left), 0)).where(_owner(scope, _H) == scope)
    return int(connection.scalar(total) or 0)


def paid_in(connection: Connection, account_id: str) -> int:
    """What was paid into an account and came with plans, less what was taken back and what plans cost."""
    where = _L.account_id == account_id
    came = select(func.coalesce(func.sum(_L.amount), 0)).where(where, _L.debit.in_(OUTSIDE))
    went = select(func.coalesce(func.sum(_L.amount), 0)).where(where, _L.credit.in_(OUTSIDE))
    return int(connection.scalar(came) or 0) - int(connection.scalar(went) or 0)


def fund(connection: Connection, account_id: str, amount: int) -> None:
    """Moves the balance of an account that pays in advance, beside the entry that says why."""
    balance = update(schema.budgets).where(_B.scope == account_id, _B.prepaid)
    connection.execute(balance.values(amount=_B.amount + amount))


def _owner(scope: str, columns: Any) -> ColumnElement[str]:
    """The column that has ids of the scope's kind."""
    return getattr(  # type: ignore[no-any-return] # a column of a table
        columns, {"key": "key_id", "prj": "project_id", "acc": "account_id"}[scope.partition("_")[0]]
    )


def payer_of(account_id: str, project_id: str, key_id: str, purse: str) -> Payer:
    """Who pays for what is held for a purse: the part of the path that begins there.

    Raises:
        MeshError: REASON_INVALID_REQUEST, the purse is none of the three.
    """
    payers = {
        key_id: Payer(account_id, project_id, key_id),
        project_id: Payer(account_id, project_id),
        account_id: Payer(account_id),
    }
    if not purse or purse not in payers:
        raise MeshError(
            errors_pb2.REASON_INVALID_REQUEST, "the purse is not one of this caller", metadata={"param": "purse"}
        )
    return payers[purse]
