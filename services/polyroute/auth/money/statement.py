"""The ledger as people read it: entries in pages."""

from typing import Any, Final

from sqlalchemy import select

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.admin.paging import Page, token
from polyroute.auth.database import Database
from polyroute.auth.money.entries import Kind
from polyroute.auth.people.reach import within
from polyroute.mesh.errors import MeshError

FIELDS: Final = ("account_id", "project_id", "key_id", "request_id", "kind", "deployment")

_L: Final = schema.ledger.c


async def entries(database: Database, page: Page) -> tuple[list[Any], str]:
    """A page of rows of the ledger, newest first unless said, and what asks for the next; empty on the last."""
    query = page.ordered(select(schema.ledger).where(*within(schema.ledger, page.reach)), _L.id)
    for name, value in page.wanted.items():
        query = query.where(_L[name] == (_kind(value) if name == "kind" else value))
    rows = list(await database.read(lambda connection: connection.execute(query).all()))
    found = rows[: page.size]
    return found, token(found[-1].id) if len(rows) > page.size else ""


async def latest(database: Database, request_id: str) -> Any:
    """The last entry of a call, an allowance or a payment.

    Raises:
        MeshError: REASON_NOT_FOUND, there is none.
    """
    query = select(schema.ledger).where(_L.request_id == request_id).order_by(_L.id.desc()).limit(1)
    row = await database.read(lambda connection: connection.execute(query).one_or_none())
    if row is None:
        raise MeshError(errors_pb2.REASON_NOT_FOUND, "the ledger has no such entry", metadata={"resource": request_id})
    return row


def _kind(name: str) -> Kind:
    try:
        return Kind[name.upper()]
    except KeyError:
        raise MeshError(
            errors_pb2.REASON_INVALID_REQUEST, f"there is no such kind of entry: {name}", metadata={"param": "filter"}
        ) from None
