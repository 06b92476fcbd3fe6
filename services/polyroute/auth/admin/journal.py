"""The log of what administrators changed: it only grows, and each event's digest covers the one before."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import orjson
from sqlalchemy import Connection, insert, select

from polyroute.auth import schema
from polyroute.auth.admin.paging import Page, token
from polyroute.auth.database import Database

DIGEST_BYTES: Final = 32
FIRST: Final = bytes(DIGEST_BYTES)
FIELDS: Final = ("actor", "action", "resource")

_E: Final = schema.audit_events.c


@dataclass(frozen=True, slots=True)
class Change:
    """One administrative change; how the resource was before and is since, empty where it was not there."""

    actor: str
    action: str
    resource: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """A change as it is kept; `time` in microseconds since the Unix epoch, states as JSON."""

    id: int
    time: int
    actor: str
    action: str
    resource: str
    before: str
    after: str
    digest: bytes


def record(connection: Connection, change: Change, at: int) -> None:
    """Writes a change down, in the transaction that makes it."""
    row = {
        "time": at,
        "actor": change.actor,
        "action": change.action,
        "resource": change.resource,
        "before": _json(change.before),
        "after": _json(change.after),
    }
    last = connection.scalar(select(_E.digest).order_by(_E.id.desc()).limit(1))
    connection.execute(insert(schema.audit_events).values(row | {"digest": _digest(last or FIRST, row)}))


def _json(state: Mapping[str, Any]) -> str:
    return orjson.dumps(state, option=orjson.OPT_SORT_KEYS, default=str).decode() if state else ""


def _digest(before: bytes, row: Any) -> bytes:
    names = ("time", "actor", "action", "resource", "before", "after")
    return blake2b(before + orjson.dumps([row[name] for name in names]), digest_size=DIGEST_BYTES).digest()


class Journal:
    """The log, for those who read it and for changes that have a transaction of their own.

    Args:
        database: Where it is.
        now: Wall clock, seconds since the Unix epoch.
    """

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    async def record(self, change: Change) -> None:
        """Writes a change down that was made elsewhere."""
        at = round(self._now() * 1e6)
        await self._database.write(lambda connection: record(connection, change, at))

    async def page(self, page: Page) -> tuple[list[Event], str]:
        """A page of events, newest first, and the token that asks for the next; empty on the last."""
        query = select(schema.audit_events).order_by(_E.id.desc()).limit(page.size + 1)
        query = query.where(*(_E[name] == value for name, value in page.wanted.items()))
        if page.after:
            query = query.where(_E.id < page.after[0])
        found = await self._database.read(lambda connection: connection.execute(query).all())
        events = [Event(*row) for row in found[: page.size]]
        return events, token(events[-1].id) if len(found) > page.size else ""

    async def intact(self) -> bool:
        """Whether no event was changed or removed since it was written, the last ones left aside."""
        return await self._database.read(_intact)


def _intact(connection: Connection) -> bool:
    before = FIRST
    for row in connection.execute(select(schema.audit_events).order_by(_E.id)).mappings():
        if row["digest"] != _digest(before, row):
            return False
        before = row["digest"]
    return True
