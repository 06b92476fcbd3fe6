"""The ledger as people read it: entries in pages."""

from typing import Any, Final

from sqlalchemy import Connection, select

from polyroute.api.auth.v1 import admin_pb2
from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.admin.filters import Choice, Fields, Flag, Moment, Number, Text
from polyroute.auth.admin.paging import Page, token
from polyroute.auth.database import Database
from polyroute.auth.money.entries import Book
from polyroute.auth.people.reach import within
from polyroute.mesh.errors import MeshError

_L: Final = schema.ledger.c
_BOOKS: Final = {book.name.lower(): int(book) for book in Book}

FIELDS: Final[Fields] = {
    "id": Number(_L.id),
    "kind": Choice.of(_L.kind, admin_pb2.EntryKind),
    "request_id": Text(_L.request_id),
    "attempt": Number(_L.attempt),
    "part": Number(_L.part),
    "debit": Choice(_L.debit, _BOOKS),
    "credit": Choice(_L.credit, _BOOKS),
    "amount_nanos": Number(_L.amount),
    "account_id": Text(_L.account_id),
    "project_id": Text(_L.project_id),
    "key_id": Text(_L.key_id),
    "post_time": Moment(_L.posted),
    "rule": Text(_L.rule),
    "price_version": Text(_L.price_version),
    "estimated": Flag(_L.estimated),
    "deployment": Text(_L.deployment),
    "note": Text(_L.note),
    "model": Text(_L.model),
    "cost_nanos": Number(_L.cost),
    "multiplier_millionths": Number(_L.multiplier),
}


async def entries(database: Database, page: Page) -> tuple[list[Any], str]:
    """A page of rows of the ledger, newest first unless said, and what asks for the next; empty on the last."""
    query = page.ordered(select(schema.ledger).where(*page.wanted, *within(schema.ledger, page.reach)), _L.id)
    rows = list(await database.read(lambda connection: connection.execute(query).all()))
    found = rows[: page.size]
    return found, token(found[-1].id) if len(rows) > page.size else ""


async def latest(database: Database, request_id: str) -> Any:
    """The last entry of a call, an allowance or a payment.

    Raises:
        MeshError: REASON_NOT_FOUND, there is none.
    """
    return await database.read(lambda connection: last(connection, request_id))


def last(connection: Connection, request_id: str) -> Any:
    """The same, in a transaction under way."""
    query = select(schema.ledger).where(_L.request_id == request_id).order_by(_L.id.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise MeshError(errors_pb2.REASON_NOT_FOUND, "the ledger has no such entry", metadata={"resource": request_id})
    return row
