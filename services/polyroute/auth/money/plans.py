"""Plans and subscriptions: a price per period, a quota that comes with it, and what happens when that is used up.

A period is a day, a week or a month where the subscription lives, or for ever. When one begins, its price goes from
the account's money to the book of plans and its quota the other way; when it ends, what was not used of the quota goes
back. So calls within the quota cost nothing beside the price, and calls beyond it are paid like any others, where the
plan allows them. A budget of the same period counts what was spent, and refuses what is beyond the quota where the plan
does not. What a plan says of calls beside money (`terms.py`) holds as long as the subscription; see `inforce.py`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, not_, select, update

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.admin.paging import Page, token
from polyroute.auth.admin.states import is_there
from polyroute.auth.database import Also, Database, nothing
from polyroute.auth.money import budgets
from polyroute.auth.money.entries import Book, Entry, Kind, Payer, post, within_bounds
from polyroute.auth.money.ids import new_id
from polyroute.auth.money.ledger import Ledger
from polyroute.auth.money.periods import Period, window, zone
from polyroute.auth.money.terms import Terms
from polyroute.auth.people.reach import within
from polyroute.mesh.errors import MeshError

RENEW_SECONDS: Final = 5.0
DAY: Final = 86_400 * 1_000_000  # microseconds

_P: Final = schema.plans.c
_S: Final = schema.subscriptions.c
_B: Final = schema.budgets.c

_log = structlog.get_logger("plans")


@dataclass(frozen=True, slots=True)
class Plan:
    """What may be subscribed to; `price` and `quota` per period, nano-USD."""

    name: str
    period: Period
    price: int
    quota: int
    overage: bool
    closed: bool
    terms: Terms = Terms()  # noqa: RUF009 - never changed


@dataclass(frozen=True, slots=True)
class Subscription:
    """A plan in force for `scope`, an account or a project; times in microseconds since the Unix epoch."""

    id: str
    scope: str
    account_id: str
    plan: str
    period: Period
    price: int
    quota: int
    overage: bool
    time_zone: str
    started: int
    ends: int | None
    cancelled: bool
    ended: bool
    budget_id: str
    created: int
    terms: Terms = Terms()  # noqa: RUF009 - never changed

    @property
    def payer(self) -> Payer:
        """Whose money it is."""
        return Payer(self.account_id, "" if self.scope == self.account_id else self.scope)


class Cancelled(NamedTuple):
    """A subscription that was to end, how it was and is, and what was spent in its period, nano-USD."""

    before: Subscription
    after: Subscription
    spent: int


class Plans:
    """Plans, and the subscriptions to them.

    Args:
        database: Where they are.
        ledger: Posts prices and quotas.
        changed: Told of each account and project whose plan or budgets have changed, and of each such subscription.
    """

    def __init__(self, database: Database, ledger: Ledger, changed: Callable[[str], None]) -> None:
        self._database = database
        self._ledger = ledger
        self._changed = changed

    async def put(self, plan: Plan, also: Also[Plan | None] = nothing) -> Plan | None:
        """Sets a plan; subscriptions take the new terms when they are renewed. What it was before, None for a new one.

        With that, `also` is done in the same transaction.

        Raises:
            MeshError: REASON_INVALID_REQUEST, its price or its quota is more than sums have room for, or its terms
                could never be meant.
        """
        plan.terms.check()
        within_bounds(plan.price, "plan.price_nanos")
        within_bounds(plan.quota, "plan.quota_nanos")

        def work(connection: Connection, _now: int) -> Plan | None:
            before = _the_plan(connection, plan.name)
            connection.execute(delete(schema.plans).where(_P.name == plan.name))
            connection.execute(insert(schema.plans).values(_row(plan)))
            also(connection, before)
            return before

        return await self._ledger.transact(work)

    async def plans(self, page: Page) -> tuple[list[Plan], str]:
        """A page of plans, by name, and the token that asks for the next."""
        query = select(schema.plans).where(*page.wanted).order_by(_P.name).limit(page.size + 1)
        if page.after:
            query = query.where(_P.name > str(page.after[0]))
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        found = [_plan(row) for row in rows[: page.size]]
        return found, token(found[-1].name) if len(rows) > page.size else ""

    async def subscribe(
        self, scope: str, plan: str, time_zone: str, also: Also[Subscription] = nothing
    ) -> Subscription:
        """Subscribes an account or a project, for the whole of the period that it is now and those that follow.

        `also` is done in the same transaction.

        Raises:
            MeshError: REASON_NOT_FOUND, there is no such account, project or plan; REASON_INVALID_REQUEST, there is
                a subscription; REASON_BUDGET_EXHAUSTED, the balance cannot pay for it.
        """

        def work(connection: Connection, now: int) -> Subscription:
            made = _subscribed(connection, scope, plan, time_zone, now)
            also(connection, made)
            return made

        made = await self._ledger.transact(work)
        self._tell(made)
        return made

    async def cancel(self, subscription_id: str, also: Also[Cancelled] = nothing) -> Subscription:
        """Ends a subscription when its current period does; one that never ends, now.

        `also` is done in the same transaction.
        """

        def work(connection: Connection, now: int) -> Subscription:
            found = _one(connection, subscription_id)
            connection.execute(update(schema.subscriptions).where(_S.id == found.id).values(cancelled=True))
            if found.ends is None and not found.ended:
                _end(connection, found, now)
            after = _one(connection, subscription_id)
            also(connection, Cancelled(found, after, _used(connection, after)))
            return after

        found = await self._ledger.transact(work)
        self._tell(found)
        return found

    async def subscriptions(self, account_id: str, page: Page) -> tuple[list[tuple[Subscription, int]], str]:
        """A page of subscriptions, newest first, each with what was spent in its period, and the token for the next."""
        query = select(schema.subscriptions).where(*page.wanted).order_by(_S.id.desc()).limit(page.size + 1)
        query = query.where(*within(schema.subscriptions, page.reach))
        if account_id:
            query = query.where(_S.account_id == account_id)
        if page.after:
            query = query.where(_S.id < str(page.after[0]))

        def work(connection: Connection) -> tuple[list[tuple[Subscription, int]], bool]:
            rows = connection.execute(query).all()
            found = [_subscription(row) for row in rows[: page.size]]
            return [(one, _used(connection, one)) for one in found], len(rows) > page.size

        found, more = await self._database.read(work)
        return found, token(found[-1][0].id) if more else ""

    async def spent(self, subscription: Subscription) -> int:
        """What was spent in the current period of a subscription, nano-USD."""
        return await self._database.read(lambda connection: _used(connection, subscription))

    async def renew(self) -> list[Subscription]:
        """Ends the periods that are over, and begins those that follow; the subscriptions that were touched."""
        touched = await self._ledger.transact(_renewed)
        for one in touched:
            self._tell(one)
        return touched

    async def run(self) -> None:
        """Renews for ever."""
        while True:
            await self.renew()
            await asyncio.sleep(RENEW_SECONDS)

    def _tell(self, one: Subscription) -> None:
        self._changed(one.scope)  # of what its calls may do and spend
        if one.terms.limits:
            self._changed(one.id)  # of these, whose scope it is


def _subscribed(connection: Connection, scope: str, name: str, time_zone: str, now: int) -> Subscription:
    account_id = _account_of(connection, scope)
    plan = _the_plan(connection, name)
    if plan is None or plan.closed:
        raise _unknown("plan", name)
    running = select(_S.id).where(_S.scope == scope, not_(_S.ended))
    if connection.scalar(running) is not None:
        raise MeshError(errors_pb2.REASON_INVALID_REQUEST, "it has a subscription", metadata={"param": "scope"})
    former = select(_S.budget_id).where(_S.scope == scope)
    connection.execute(delete(schema.budgets).where(_B.id.in_(former)))
    started, ends = window(plan.period, zone(time_zone), now)
    terms = (plan.name, plan.period, plan.price, plan.quota, plan.overage, time_zone, started, ends)
    new = Subscription(new_id("sub"), scope, account_id, *terms, False, False, new_id("bud"), now, plan.terms)
    if not _payable(connection, new, plan, now):
        raise MeshError(errors_pb2.REASON_BUDGET_EXHAUSTED, "the balance of this account cannot pay for the plan")
    connection.execute(insert(schema.subscriptions).values(_row(new)))
    _begin(connection, new, now)
    return new


def _renewed(connection: Connection, now: int) -> list[Subscription]:
    rows = connection.execute(select(schema.subscriptions).where(not_(_S.ended), _S.ends <= now)).all()
    over = [_subscription(row) for row in rows]
    for one in over:
        plan = _the_plan(connection, one.plan)
        _lapse(connection, one, now)
        if one.cancelled or plan is None or not _payable(connection, one, plan, now):
            _log.info("subscription ended", subscription=one.id, scope=one.scope, cancelled=one.cancelled)
            _close(connection, one)
            continue
        started, ends = window(plan.period, zone(one.time_zone), now)
        following = replace(
            one,
            period=plan.period,
            price=plan.price,
            quota=plan.quota,
            overage=plan.overage,
            terms=plan.terms,
            started=started,
            ends=ends,
        )
        connection.execute(update(schema.subscriptions).where(_S.id == one.id).values(**_row(following)))
        _begin(connection, following, now)
    return over


def _begin(connection: Connection, one: Subscription, now: int) -> None:
    """Posts the price and the quota of a period, and sets the budget that counts it."""
    if one.price:
        _post(connection, one, Kind.FEE, (Book.AVAILABLE, Book.PLAN), one.price, now)
    if one.quota:
        _post(connection, one, Kind.GRANT, (Book.PLAN, Book.AVAILABLE), one.quota, now)
    row = {
        "id": one.budget_id,
        "scope": one.scope,
        "period": one.period,
        "time_zone": one.time_zone,
        "amount": one.quota,
        "hard": not one.overage,
        "prepaid": False,
        "started": one.started,
        "ends": one.ends,
        "spent": budgets.spent_since(connection, one.scope, one.started),
        "held": budgets.held_now(connection, one.scope),
        "created": one.created,
    }
    connection.execute(delete(schema.budgets).where(_B.id == one.budget_id))
    connection.execute(insert(schema.budgets).values(row))


def _lapse(connection: Connection, one: Subscription, now: int) -> None:
    """Takes back what was not used of a quota."""
    unused = max(0, one.quota - _used(connection, one))
    if unused:
        _post(connection, one, Kind.LAPSE, (Book.AVAILABLE, Book.PLAN), unused, now)


def _end(connection: Connection, one: Subscription, now: int) -> None:
    _lapse(connection, one, now)
    _close(connection, one)


def give_up(connection: Connection, which: ColumnElement[bool], now: int) -> None:
    """Ends the subscriptions of which something is true, at once and whatever is left of their periods."""
    for row in connection.execute(select(schema.subscriptions).where(which, not_(_S.ended))).all():
        connection.execute(update(schema.subscriptions).where(_S.id == row.id).values(cancelled=True))
        _end(connection, _subscription(row), now)


def _close(connection: Connection, one: Subscription) -> None:
    """Nothing comes with the subscription any more: what its plan bounded is bounded by nothing that is left."""
    connection.execute(update(schema.subscriptions).where(_S.id == one.id).values(ended=True))
    same = _B.id == one.budget_id
    if one.overage:
        connection.execute(delete(schema.budgets).where(same))
    else:  # whoever had a quota and no more must not have more without it
        connection.execute(update(schema.budgets).where(same).values(amount=0))


def _post(
    connection: Connection, one: Subscription, kind: Kind, books: tuple[Book, Book], amount: int, now: int
) -> None:
    place = one.started // DAY  # tells the periods of a subscription apart
    entry = Entry(kind, one.id, 0, place, *books, amount, *one.payer, now, note=f"plan {one.plan}")
    post(connection, [entry])
    budgets.fund(connection, one.account_id, amount if books[1] == Book.AVAILABLE else -amount)


def _payable(connection: Connection, one: Subscription, plan: Plan, now: int) -> bool:
    """Whether an account that pays in advance can pay the price; what comes with it pays for it as well."""
    balances = [budget for budget in budgets.of(connection, [one.account_id], now) if budget.prepaid]
    return all(budget.left >= plan.price for budget in balances)


def _used(connection: Connection, one: Subscription) -> int:
    """What the ledger says was spent in the period of a subscription."""
    ledger = schema.ledger.c
    owner = ledger.account_id if one.scope == one.account_id else ledger.project_id
    when = ledger.posted >= one.started
    if one.ends is not None:
        when = and_(when, ledger.posted < one.ends)
    total = select(func.coalesce(func.sum(ledger.amount), 0)).where(owner == one.scope, when)
    came = connection.scalar(total.where(ledger.credit == Book.SPENT))
    went = connection.scalar(total.where(ledger.debit == Book.SPENT))
    return int(came or 0) - int(went or 0)


def _account_of(connection: Connection, scope: str) -> str:
    accounts, projects = schema.accounts.c, schema.projects.c
    query = select(accounts.id).where(accounts.id == scope)
    if scope.startswith("prj_"):
        query = select(projects.account_id).where(projects.id == scope)
    found = connection.scalar(query)
    if found is None or not is_there(connection, scope):
        raise _unknown("account or project", scope)
    return str(found)


def _the_plan(connection: Connection, name: str) -> Plan | None:
    row = connection.execute(select(schema.plans).where(_P.name == name)).one_or_none()
    return None if row is None else _plan(row)


def _one(connection: Connection, subscription_id: str) -> Subscription:
    row = connection.execute(select(schema.subscriptions).where(_S.id == subscription_id)).one_or_none()
    if row is None:
        raise _unknown("subscription", subscription_id)
    return _subscription(row)


def _row(thing: Any) -> dict[str, Any]:
    return {name: getattr(thing, name) for name in thing.__slots__} | {"terms": thing.terms.to_json()}


def _plan(row: Any) -> Plan:
    values = [getattr(row, name) for name in Plan.__slots__]
    return replace(Plan(*values), period=Period(row.period), terms=Terms.from_json(row.terms))


def _subscription(row: Any) -> Subscription:
    values = [getattr(row, name) for name in Subscription.__slots__]
    return replace(Subscription(*values), period=Period(row.period), terms=Terms.from_json(row.terms))


def _unknown(what: str, name: str) -> MeshError:
    return MeshError(errors_pb2.REASON_NOT_FOUND, f"there is no such {what}", metadata={"resource": name})
