"""What an account spent and paid, added up: statements of any time, and invoices that are never changed again.

Both are sums of the ledger's entries and of nothing else. A statement takes the entries that were posted in a time. An
invoice takes those that the account's invoice before does not have, so that each entry is on exactly one of them: what
is posted late, a correction for instance, is on the next.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, Connection, and_, case, func, insert, or_, select

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.admin.paging import Page, token
from polyroute.auth.database import Also, Database, nothing
from polyroute.auth.money.entries import OUTSIDE, Book, Kind
from polyroute.auth.money.ledger import Ledger
from polyroute.auth.money.periods import Period, window, zone
from polyroute.auth.people.actors import Reach
from polyroute.auth.people.reach import within
from polyroute.mesh.errors import MeshError

BESIDE: Final = (Kind.CREDIT, Kind.FEE, Kind.GRANT, Kind.LAPSE)
NUMBER: Final = "INV-{:06}"

_L: Final = schema.ledger.c
_I: Final = schema.invoices.c
_PLANS: Final = frozenset(BESIDE) - {Kind.CREDIT}


@dataclass(frozen=True, slots=True)
class Line:
    """What a project spent on a model at a deployment; see the contract's StatementLine. Nano-USD."""

    project_id: str
    model: str
    deployment: str
    attempts: int
    cost: int
    amount: int
    estimated: int
    unpriced: int


@dataclass(frozen=True, slots=True)
class Item:
    """What moved beside calls; `amount` in nano-USD is below nothing where the account has less for it."""

    kind: int
    posted: int
    request_id: str
    project_id: str
    amount: int
    note: str


@dataclass(frozen=True, slots=True)
class Statement:
    """What an account spent and paid; times in microseconds since the Unix epoch, `ends` not included."""

    account_id: str
    account_name: str
    started: int
    ends: int
    opening: int
    lines: tuple[Line, ...]
    items: tuple[Item, ...]

    @property
    def paid_in(self) -> int:
        """Payments, less what was taken back."""
        return sum(item.amount for item in self.items if item.kind == Kind.CREDIT)

    @property
    def plans(self) -> int:
        """Quotas, less the prices of their plans and what lapsed of them."""
        return sum(item.amount for item in self.items if item.kind in _PLANS)

    @property
    def spent(self) -> int:
        """The sum of the lines."""
        return sum(line.amount for line in self.lines)

    @property
    def closing(self) -> int:
        """What the account has at the end; below nothing what it owes."""
        return self.opening + self.paid_in + self.plans - self.spent

    @classmethod
    def of(cls, tree: dict[str, Any]) -> "Statement":
        """The statement that a document holds."""
        lines = tuple(Line(**line) for line in tree["lines"])
        return cls(**tree | {"lines": lines, "items": tuple(Item(**item) for item in tree["items"])})


@dataclass(frozen=True, slots=True)
class Invoice:
    """A statement that was issued for good.

    Attributes:
        issued: When, microseconds since the Unix epoch.
        last_entry: The last entry of the ledger that is on it.
        digest: SHA-256 of the document.
        document: JSON; it holds the digest of the invoice before, of whichever account.
    """

    number: int
    issued: int
    last_entry: int
    digest: bytes
    document: bytes

    @property
    def name(self) -> str:
        """Its number as people write it."""
        return NUMBER.format(self.number)

    @property
    def statement(self) -> Statement:
        """What is on it."""
        return Statement.of(orjson.loads(self.document)["statement"])


class Bills:
    """Statements and invoices.

    Args:
        database: Where the ledger is.
        ledger: Knows the moment, and writes.
    """

    def __init__(self, database: Database, ledger: Ledger) -> None:
        self._database = database
        self._ledger = ledger

    async def statement(self, account_id: str, started: int | None, ends: int | None, now: int) -> Statement:
        """The statement of a time; None means from the beginning, and until now.

        Raises:
            MeshError: REASON_NOT_FOUND, there is no such account; REASON_INVALID_REQUEST, it ends before it begins.
        """
        start, end = started or 0, now + 1 if ends is None else ends
        if end < start:
            raise _invalid("end_time", "the time ends before it begins")
        during, before = and_(_L.posted >= start, _L.posted < end), _L.posted < start
        return await self._database.read(lambda connection: drawn(connection, account_id, (start, end), before, during))

    async def issue(self, account_id: str, ends: int | None, also: Also[Invoice] = nothing) -> Invoice | None:
        """The invoice over everything before `ends` that no invoice has yet; None means the last first of a month, UTC.

        There is none where it would have neither a line nor an item: nothing is issued then, and no number used.

        It is issued once: repeated, it is the same one. Where it is issued now, `also` is done in the same transaction.

        Raises:
            MeshError: REASON_NOT_FOUND, there is no such account; REASON_INVALID_REQUEST, the time is not over,
                or is on an invoice already.
        """
        return await self._ledger.transact(lambda connection, now: _issued(connection, account_id, ends, now, also))

    async def invoice(self, name: str, reach: Reach | None = None) -> Invoice:
        """The invoice of that number, within somebody's reach.

        Raises:
            MeshError: REASON_NOT_FOUND, there is none.
        """
        digits = name.removeprefix("INV-")
        number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0
        query = select(schema.invoices).where(_I.number == number, *within(schema.invoices, reach))
        row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            raise _unknown("invoice", name)
        return _invoice(row)

    async def invoices(self, account_id: str, page: Page) -> tuple[list[Invoice], str]:
        """A page of invoices, newest first, of one account or of all, and the token that asks for the next."""
        query = select(schema.invoices).where(*page.wanted).order_by(_I.number.desc()).limit(page.size + 1)
        query = query.where(*within(schema.invoices, page.reach))
        if account_id:
            query = query.where(_I.account_id == account_id)
        if page.after:
            query = query.where(_I.number < page.after[0])
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        found = [_invoice(row) for row in rows[: page.size]]
        return found, token(found[-1].number) if len(rows) > page.size else ""


def drawn(
    connection: Connection,
    account_id: str,
    time: tuple[int, int],
    before: ColumnElement[bool],
    during: ColumnElement[bool],
) -> Statement:
    """The statement of the entries `during` a time, after those `before`.

    Raises:
        MeshError: REASON_NOT_FOUND, there is no such account.
    """
    name = connection.scalar(select(schema.accounts.c.name).where(schema.accounts.c.id == account_id))
    if name is None:
        raise _unknown("account", account_id)
    own = _L.account_id == account_id
    opening = _gained(connection, and_(own, before))
    lines = tuple(_lines(connection, and_(own, during)))
    return Statement(account_id, name, *time, opening, lines, tuple(_items(connection, and_(own, during))))


def _gained(connection: Connection, where: ColumnElement[bool]) -> int:
    """What the books `available` and `held` have of some entries, together."""
    came = func.sum(case((_L.debit.in_(OUTSIDE), _L.amount), (_L.debit == Book.SPENT, _L.amount), else_=0))
    went = func.sum(case((_L.credit.in_(OUTSIDE), _L.amount), (_L.credit == Book.SPENT, _L.amount), else_=0))
    return int(connection.scalar(select(func.coalesce(came - went, 0)).where(where)) or 0)


def _lines(connection: Connection, where: ColumnElement[bool]) -> Iterator[Line]:
    signed = case((_L.credit == Book.SPENT, _L.amount), else_=-_L.amount)
    first = and_(_L.kind == Kind.SETTLE, _L.part == 0)
    keys = (_L.project_id, _L.model, _L.deployment)
    query = (
        select(
            *keys,
            func.sum(case((first, 1), else_=0)),
            func.coalesce(func.sum(_L.cost), 0),
            func.coalesce(func.sum(signed), 0),
            func.coalesce(func.sum(case((_L.estimated, signed), else_=0)), 0),
            func.sum(case((and_(first, _L.amount.is_(None)), 1), else_=0)),
        )
        .where(where, or_(_L.credit == Book.SPENT, _L.debit == Book.SPENT))
        .group_by(*keys)
        .order_by(*keys)
    )
    for row in connection.execute(query):
        yield Line(*row[:3], *(int(value) for value in row[3:]))


def _items(connection: Connection, where: ColumnElement[bool]) -> Iterator[Item]:
    query = select(schema.ledger).where(where, _L.kind.in_(BESIDE)).order_by(_L.id)
    for row in connection.execute(query):
        amount = row.amount if row.credit == Book.AVAILABLE else -row.amount
        yield Item(row.kind, row.posted, row.request_id, row.project_id, amount, row.note)


def _issued(connection: Connection, account_id: str, ends: int | None, now: int, also: Also[Invoice]) -> Invoice | None:
    end = window(Period.MONTHLY, zone(""), now)[0] if ends is None else ends
    known = connection.execute(select(schema.invoices).where(_I.account_id == account_id, _I.ends == end)).one_or_none()
    if known is not None:
        return _invoice(known)
    if end > now:
        raise _invalid("end_time", "an invoice is of a time that is over")
    earlier = select(_I.ends, _I.last_entry).where(_I.account_id == account_id).order_by(_I.number.desc()).limit(1)
    last = connection.execute(earlier).one_or_none()
    started, after = (last.ends, last.last_entry) if last is not None else (0, 0)
    if end < started:
        raise _invalid("end_time", "that time is on an invoice already")
    issued = _written(connection, account_id, (started, end), after, now)
    if issued is not None:
        also(connection, issued)
    return issued


def _written(connection: Connection, account_id: str, time: tuple[int, int], after: int, now: int) -> Invoice | None:
    until = _last_before(connection, account_id, time[1], after)
    statement = drawn(connection, account_id, time, _L.id <= after, and_(_L.id > after, _L.id <= until))
    if not statement.lines and not statement.items:
        return None
    before = connection.execute(select(_I.number, _I.digest).order_by(_I.number.desc()).limit(1)).one_or_none()
    number = 1 if before is None else before.number + 1
    tree = {
        "number": NUMBER.format(number),
        "issued": now,
        "last_entry": until,
        "previous_digest": "" if before is None else before.digest.hex(),
        "currency": "USD",
        "unit": "nano",
        "statement": asdict(statement),
        "totals": totals(statement),
    }
    document = orjson.dumps(tree, option=orjson.OPT_SORT_KEYS)
    digest = sha256(document).digest()
    row = {"number": number, "account_id": account_id, "started": time[0], "ends": time[1], "issued": now}
    connection.execute(insert(schema.invoices).values(**row, last_entry=until, digest=digest, document=document))
    return Invoice(number, now, until, digest, document)


def _last_before(connection: Connection, account_id: str, ends: int, after: int) -> int:
    """The last entry of an account before the first that was posted at `ends` or later; `after` where there is none."""
    own = _L.account_id == account_id
    following = connection.scalar(select(func.min(_L.id)).where(own, _L.posted >= ends))
    last = select(func.max(_L.id)).where(own, *(() if following is None else (_L.id < following,)))
    return max(after, connection.scalar(last) or 0)


def totals(statement: Statement) -> dict[str, int]:
    """The sums of a statement, nano-USD."""
    names = ("opening", "paid_in", "plans", "spent", "closing")
    return {name: getattr(statement, name) for name in names}


def findings(connection: Connection) -> Iterator[str]:
    """What of the invoices is not as it was issued, or not what the ledger says."""
    before, places = "", dict[str, int]()
    for row in connection.execute(select(schema.invoices).order_by(_I.number)).all():
        invoice, tree = _invoice(row), orjson.loads(row.document)
        if sha256(row.document).digest() != row.digest or tree["previous_digest"] != before:
            yield f"invoice {invoice.name} was changed after it was issued"
        after = places.get(row.account_id, 0)
        during = and_(_L.id > after, _L.id <= row.last_entry)
        true = drawn(connection, row.account_id, (row.started, row.ends), _L.id <= after, during)
        if totals(true) != tree["totals"]:
            yield f"invoice {invoice.name} says {tree['totals']}, the ledger {totals(true)}"
        before, places[row.account_id] = row.digest.hex(), row.last_entry


def _invoice(row: Any) -> Invoice:
    return Invoice(row.number, row.issued, row.last_entry, row.digest, row.document)


def _unknown(what: str, name: str) -> MeshError:
    return MeshError(errors_pb2.REASON_NOT_FOUND, f"there is no such {what}", metadata={"resource": name})


def _invalid(param: str, message: str) -> MeshError:
    return MeshError(errors_pb2.REASON_INVALID_REQUEST, message, metadata={"param": param})
