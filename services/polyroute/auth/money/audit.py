"""Whether the ledger adds up: its seals, its books, and every counter that is derived from it."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import Connection, func, select

from polyroute.auth import schema
from polyroute.auth.database import Database
from polyroute.auth.money import bills, budgets
from polyroute.auth.money.budgets import Budget
from polyroute.auth.money.entries import FIRST_SEAL, Book, Entry, sealed

SEALS: Final = 2000  # looked at together

_L: Final = schema.ledger.c
_S: Final = schema.seals.c
_COLUMNS: Final = [getattr(_L, name) for name in Entry._fields]


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found; nano-USD.

    Attributes:
        findings: What does not add up, in words.
        entries: How many there are.
        held: In the books of what is reserved.
        spent: In the books of what was spent.
    """

    findings: tuple[str, ...]
    entries: int
    held: int
    spent: int


async def audit(database: Database) -> Audit:
    """Looks at the whole ledger at one moment, while others go on writing."""
    return await database.read(audited)


def audited(connection: Connection) -> Audit:
    """What there is to find through a connection, at its moment."""
    findings = tuple(_findings(connection))
    entries = int(connection.scalar(select(func.count()).select_from(schema.ledger)) or 0)
    books = _books(connection)
    held, spent = (sum(of.get(book, 0) for of in books.values()) for book in (Book.HELD, Book.SPENT))
    return Audit(findings, entries, held, spent)


def _findings(connection: Connection) -> Iterator[str]:
    for finding in _seals(connection):
        yield finding
    books = _books(connection)
    holds = _open_holds(connection)
    for finding in _balances(books, holds):
        yield finding
    for row in (connection.execute(select(schema.budgets))).all():
        budget = budgets.budget_of(row._mapping)  # noqa: SLF001 - the public name of a row's mapping
        for finding in _counters(connection, budget):
            yield finding
    yield from bills.findings(connection)


def _seals(connection: Connection) -> Iterator[str]:
    """Every seal, against the entries it stands for and the seal before."""
    before, last, place = FIRST_SEAL, 0, 0
    query = select(_S.id, _S.last_entry, _S.digest).order_by(_S.id).limit(SEALS)
    while rows := (connection.execute(query.where(_S.id > place))).all():
        entries = _between(connection, last, rows[-1].last_entry)
        ends = [last, *(row.last_entry for row in rows)]
        numbers = [number for number, _ in entries]
        for row, (start, end) in zip(rows, pairwise(ends), strict=True):
            own = slice(bisect_right(numbers, start), bisect_right(numbers, end))
            found = sealed(before, (entry for _, entry in entries[own]))
            if found != row.digest:
                yield f"seal {row.id} does not fit entries {start + 1} to {end}"
            before = row.digest
        last, place = rows[-1].last_entry, rows[-1].id
    unsealed = connection.scalar(select(func.count()).select_from(schema.ledger).where(_L.id > last))
    if unsealed:
        yield f"{unsealed} entries after {last} have no seal"


def _between(connection: Connection, after: int, until: int) -> list[tuple[int, Entry]]:
    query = select(_L.id, *_COLUMNS).where(_L.id > after, _L.id <= until).order_by(_L.id)
    return [(row[0], _entry(row[1:])) for row in connection.execute(query)]


def _entry(values: Sequence[Any]) -> Entry:
    entry = Entry(*values)
    return entry._replace(estimated=int(entry.estimated))  # as it was when it was sealed


Books = Mapping[str, Mapping[int, int]]
"""Account -> book -> balance."""


def _books(connection: Connection) -> Books:
    found: dict[str, dict[int, int]] = {}
    for column, sign in ((_L.credit, 1), (_L.debit, -1)):
        query = select(_L.account_id, column, func.coalesce(func.sum(_L.amount), 0)).group_by(_L.account_id, column)
        for account, book, total in connection.execute(query):
            of = found.setdefault(account, {})
            of[book] = of.get(book, 0) + sign * total
    return found


def _open_holds(connection: Connection) -> Mapping[str, int]:
    table = schema.holds.c
    query = select(table.account_id, func.sum(table.left)).group_by(table.account_id)
    return {row[0]: row[1] for row in connection.execute(query)}


def _balances(books: Books, holds: Mapping[str, int]) -> Iterator[str]:
    for account in sorted({*books, *holds}):
        of = books.get(account, {})
        if sum(of.values()):
            yield f"the books of {account} add up to {sum(of.values())}"
        if of.get(Book.HELD, 0) != holds.get(account, 0):
            yield f"{account} has {of.get(Book.HELD, 0)} in the book of holds and {holds.get(account, 0)} in open holds"


def _counters(connection: Connection, budget: Budget) -> list[str]:
    pairs = [
        ("spent", budget.spent, budgets.spent_since(connection, budget.scope, budget.started)),
        ("held", budget.held, budgets.held_now(connection, budget.scope)),
    ]
    if budget.prepaid:
        pairs.append(("paid in", budget.amount, budgets.paid_in(connection, budget.scope)))
    return [
        f"budget {budget.id} of {budget.scope} counts {counted} {what}, the ledger says {true}"
        for what, counted, true in pairs
        if counted != true
    ]
