"""Alerts: a message whenever a budget passes a threshold, once per threshold and period, until it has arrived.

What is to be said is written into an outbox beside the budgets and goes out from there, again and again with longer
pauses, so that neither a restart nor a receiver that is away loses a message. Receivers know a repeated one by its id.
"""

import asyncio
import hashlib
import hmac
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import structlog
from sqlalchemy import Connection, delete, insert, or_, select, update

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.admin.paging import Page, token
from polyroute.auth.database import Also, Database, nothing
from polyroute.auth.money.budgets import Budget, budget_of
from polyroute.auth.money.ids import new_id
from polyroute.auth.money.ledger import Ledger
from polyroute.auth.people.actors import Reach
from polyroute.auth.people.reach import within
from polyroute.mesh.errors import MeshError

PERCENTS: Final = (50, 80, 100)
LOOK_SECONDS: Final = 2.0
FIRST_WAIT: Final = 5.0  # s before the second try of a message
LONGEST_WAIT: Final = 3600.0
TRIES: Final = 24  # the last of them most of a day after the first
AT_ONCE: Final = 16  # messages under way
PROBLEM_CHARACTERS: Final = 256
SECRET_MARK: Final = "whs-"  # noqa: S105 - only how one begins

_A: Final = schema.alerts.c
_D: Final = schema.deliveries.c
_B: Final = schema.budgets.c

_log = structlog.get_logger("alerts")


@dataclass(frozen=True, slots=True)
class Alert:
    """Who wants to hear of which budgets; `percents` ascend, `created` in microseconds since the Unix epoch."""

    id: str
    scope: str
    url: str
    percents: tuple[int, ...]
    created: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message; see the contract. `next_try` is None once it has arrived or was given up."""

    id: str
    alert_id: str
    budget_id: str
    started: int
    percent: int
    body: bytes
    created: int
    next_try: int | None
    tries: int
    delivered: int | None
    problem: str


@dataclass(frozen=True, slots=True)
class Letter:
    """A message on its way out."""

    id: str
    url: str
    secret: str
    body: bytes


Send = Callable[[Letter, int], Awaitable[str]]
"""Sends a letter at a moment, seconds since the Unix epoch; what went wrong, or nothing."""


def signature(secret: str, at: int, body: bytes) -> str:
    """The header `polyroute-signature`: HMAC-SHA256 over the time, a dot and the body, so that neither can be changed.

    Args:
        secret: What `Alerts.create` gave.
        at: Seconds since the Unix epoch; receivers refuse what is older than some minutes.
        body: The bytes as sent.
    """
    digest = hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256)
    return f"t={at},v1={digest.hexdigest()}"


class Alerts:
    """Who hears of which budgets, and what is on its way to them.

    Args:
        database: Where they are.
        ledger: Writes.
        digest: Makes the secret of an alert from its id: the installation's own keyed hash.
        send: Sends.
        check: Raises REASON_INVALID_REQUEST for an address that nothing is sent to.
    """

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        digest: Callable[[str], bytes],
        send: Send,
        check: Callable[[str], None],
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._digest = digest
        self._send = send
        self._check = check

    async def create(
        self, scope: str, url: str, percents: Iterable[int], also: Also[Alert] = nothing
    ) -> tuple[Alert, str]:
        """A new alert, and the secret of its signatures; `also` is done in the same transaction.

        Raises:
            MeshError: REASON_INVALID_REQUEST, the address; REASON_NOT_FOUND, there is no such key, project or account.
        """
        self._check(url)

        def work(connection: Connection, now: int) -> Alert:
            if scope and not _exists(connection, scope):
                message = "there is no such key, project or account"
                raise MeshError(errors_pb2.REASON_NOT_FOUND, message, metadata={"resource": scope})
            alert = Alert(new_id("alt"), scope, url, tuple(sorted(set(percents))) or PERCENTS, now)
            listed = ",".join(map(str, alert.percents))
            row = {"id": alert.id, "scope": scope, "url": url, "percents": listed, "created": now}
            connection.execute(insert(schema.alerts).values(row))
            also(connection, alert)
            return alert

        alert = await self._ledger.transact(work)
        return alert, self._secret(alert.id)

    async def delete(self, alert_id: str, reach: Reach | None = None, also: Also[Alert] = nothing) -> Alert | None:
        """Ends an alert within somebody's reach; what is on its way of it is given up. It, None where there is none.

        Where there is one, `also` is done in the same transaction.
        """

        def work(connection: Connection, _now: int) -> Alert | None:
            which = (_A.id == alert_id, *within(schema.alerts, reach))
            row = connection.execute(select(schema.alerts).where(*which)).one_or_none()
            if row is None:
                return None
            connection.execute(delete(schema.alerts).where(_A.id == alert_id))
            waiting = update(schema.deliveries).where(_D.alert_id == alert_id, _D.next_try.is_not(None))
            connection.execute(waiting.values(next_try=None, problem="the alert was ended"))
            ended = _alert(row)
            also(connection, ended)
            return ended

        return await self._ledger.transact(work)

    async def alerts(self, scope: str, page: Page) -> tuple[list[Alert], str]:
        """A page of alerts, newest first, and the token that asks for the next."""
        query = select(schema.alerts).where(*page.wanted).order_by(_A.id.desc()).limit(page.size + 1)
        query = query.where(*within(schema.alerts, page.reach))
        if scope:
            query = query.where(_A.scope == scope)
        if page.after:
            query = query.where(_A.id < str(page.after[0]))
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        found = [_alert(row) for row in rows[: page.size]]
        return found, token(found[-1].id) if len(rows) > page.size else ""

    async def deliveries(self, alert_id: str, page: Page) -> tuple[list[Delivery], str]:
        """A page of messages, newest first, and the token that asks for the next."""
        query = select(schema.deliveries).where(*page.wanted).order_by(_D.id.desc()).limit(page.size + 1)
        if page.reach is not None:
            query = query.where(_D.alert_id.in_(select(_A.id).where(*within(schema.alerts, page.reach))))
        if alert_id:
            query = query.where(_D.alert_id == alert_id)
        if page.after:
            query = query.where(_D.id < str(page.after[0]))
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        found = [_delivery(row) for row in rows[: page.size]]
        return found, token(found[-1].id) if len(rows) > page.size else ""

    async def look(self) -> int:
        """Writes a message for each threshold that was passed since the last look; how many."""
        if not await self._database.read(_anybody):
            return 0
        return await self._ledger.transact(_looked)

    async def deliver(self) -> int:
        """Tries every message whose time has come; how many arrived."""
        letters, now = await self._ledger.transact(self._due)
        problems = await asyncio.gather(*(self._send(letter, now // 1_000_000) for letter in letters))
        if letters:
            done = list(zip(letters, problems, strict=True))
            await self._ledger.transact(lambda connection, at: _noted(connection, done, at))
        return sum(not problem for problem in problems)

    async def run(self) -> None:
        """Looks and delivers for ever."""
        while True:
            await self.look()
            await self.deliver()
            await asyncio.sleep(LOOK_SECONDS)

    def _due(self, connection: Connection, now: int) -> tuple[list[Letter], int]:
        query = (
            select(_D.id, _D.alert_id, _D.body, _A.url)
            .join_from(schema.deliveries, schema.alerts, _D.alert_id == _A.id)
            .where(_D.next_try <= now)
            .order_by(_D.next_try)
            .limit(AT_ONCE)
        )
        rows = connection.execute(query).all()
        return [Letter(row.id, row.url, self._secret(row.alert_id), row.body) for row in rows], now

    def _secret(self, alert_id: str) -> str:
        return SECRET_MARK + self._digest(f"alert {alert_id}").hex()


def _anybody(connection: Connection) -> bool:
    return connection.scalar(select(_A.id).limit(1)) is not None or (
        connection.scalar(select(_D.id).where(_D.next_try.is_not(None)).limit(1)) is not None
    )


def _looked(connection: Connection, now: int) -> int:
    wanted = [_alert(row) for row in connection.execute(select(schema.alerts)).all()]
    if not wanted:
        return 0
    least = min(alert.percents[0] for alert in wanted)
    going_on = or_(_B.ends.is_(None), _B.ends > now)
    # a little too many, with quotients only: the exact comparison is made below, where no product is too large
    near = select(schema.budgets).where(_B.amount > 0, _B.spent // least >= _B.amount // 100, going_on)
    rows = connection.execute(near).mappings().all()
    passed = [one for row in rows for one in _passed(budget_of(row), wanted)]
    new = [
        (alert, budget, percent) for alert, budget, percent in passed if not _told(connection, alert, budget, percent)
    ]
    for alert, budget, percent in new:
        delivery = new_id("evt")
        row = {
            "id": delivery,
            "alert_id": alert.id,
            "budget_id": budget.id,
            "started": _beginning(budget),
            "percent": percent,
            "body": _body(delivery, budget, percent, now),
            "created": now,
            "next_try": now,
            "tries": 0,
            "problem": "",
        }
        connection.execute(insert(schema.deliveries).values(row))
    return len(new)


def _passed(budget: Budget, wanted: Iterable[Alert]) -> Iterator[tuple[Alert, Budget, int]]:
    for alert in wanted:
        if alert.scope in ("", budget.scope):
            for percent in alert.percents:
                if budget.spent * 100 >= budget.amount * percent:
                    yield alert, budget, percent


def _told(connection: Connection, alert: Alert, budget: Budget, percent: int) -> bool:
    same = (
        _D.alert_id == alert.id,
        _D.budget_id == budget.id,
        _D.started == _beginning(budget),
        _D.percent == percent,
    )
    return connection.scalar(select(_D.id).where(*same)) is not None


def _beginning(budget: Budget) -> int:
    """What tells a budget's periods apart; the balance of an account begins anew with each payment."""
    return budget.amount if budget.prepaid else budget.started


def _body(delivery: str, budget: Budget, percent: int, now: int) -> bytes:
    tree = {
        "id": delivery,
        "type": "budget.threshold_passed",
        "time": _iso(now),
        "percent": percent,
        "budget": {
            "id": budget.id,
            "scope": budget.scope,
            "period": budget.period.name.lower(),
            "hard": budget.hard,
            "prepaid": budget.prepaid,
            "amount_nanos": str(budget.amount),
            "spent_nanos": str(budget.spent),
            "held_nanos": str(budget.held),
            "start_time": _iso(budget.started) if budget.ends is not None else None,
            "end_time": _iso(budget.ends) if budget.ends is not None else None,
        },
    }
    return orjson.dumps(tree)


def _iso(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).isoformat()


def _noted(connection: Connection, done: Sequence[tuple[Letter, str]], now: int) -> None:
    """Writes down how tries ended."""
    for letter, problem in done:
        row = connection.execute(select(_D.tries).where(_D.id == letter.id)).one()
        tries = row.tries + 1
        values: dict[str, Any] = {"tries": tries, "problem": problem[:PROBLEM_CHARACTERS]}
        if not problem:
            values |= {"delivered": now, "next_try": None}
        else:
            values["next_try"] = now + _wait(tries) if tries < TRIES else None
            _log.warning("alert not delivered", delivery=letter.id, tries=tries, problem=problem)
        connection.execute(update(schema.deliveries).where(_D.id == letter.id).values(**values))


def _wait(tries: int) -> int:
    """Microseconds until the next try."""
    seconds: float = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (tries - 1))
    return round(seconds * random.uniform(0.8, 1.2) * 1e6)  # noqa: S311 - spreads tries, keeps no secret


def _exists(connection: Connection, scope: str) -> bool:
    tables = {"key": schema.keys, "prj": schema.projects, "acc": schema.accounts}
    table = tables.get(scope.partition("_")[0])
    return table is not None and connection.scalar(select(table.c.id).where(table.c.id == scope)) is not None


def _alert(row: Any) -> Alert:
    return Alert(row.id, row.scope, row.url, tuple(map(int, row.percents.split(","))), row.created)


def _delivery(row: Any) -> Delivery:
    return Delivery(*(getattr(row, name) for name in Delivery.__slots__))
