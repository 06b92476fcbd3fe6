"""The log of what administrators changed: it only grows, and each event's digest covers the one before."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson
import structlog
from google.protobuf import json_format
from google.protobuf.message import Message
from sqlalchemy import Connection, insert, select

from polyroute.auth import schema
from polyroute.auth.admin.filters import Fields, Moment, Number, Resource, Text
from polyroute.auth.admin.paging import Page, token
from polyroute.auth.database import Database
from polyroute.auth.people.places import scope_places
from polyroute.auth.people.reach import within

DIGEST_BYTES: Final = 32
FIRST: Final = bytes(DIGEST_BYTES)

_E: Final = schema.audit_events.c

FIELDS: Final[Fields] = {
    "id": Number(_E.id),
    "time": Moment(_E.time),
    "actor": Text(_E.actor),
    "action": Text(_E.action),
    "resource": Resource(_E.resource, (_E.before, _E.after)),
    "account_id": Text(_E.account_id),
}

State = Message | Mapping[str, Any] | None

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Change:
    """One administrative change; how the resource was before and is since, None where it was not there.

    A state is the contract's message of the resource, so that the log speaks as the API does; where a change has no
    resource of the contract, its members by their names there.
    """

    actor: str
    action: str
    resource: str
    before: State
    after: State


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
    account_id: str = ""
    """Whose the resource is; empty where it is the installation's."""
    told_id: str | None = None
    """What the role that told of it calls it; None for a change that was made here."""


class Told(NamedTuple):
    """A change that another role made and tells of; as in `Event`, and `id` as that role calls it."""

    id: str
    time: int
    actor: str
    action: str
    resource: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Check:
    """What a check of the log found; `broken` is the first event that is not as it was written, 0 for none."""

    events: int
    broken: int
    last: int
    digest: bytes


def record(connection: Connection, change: Change, at: int) -> None:
    """Writes a change down, in the transaction that makes it; not where everything is as it was."""
    row = {
        "time": at,
        "actor": change.actor,
        "action": change.action,
        "resource": change.resource,
        "before": _json(change.before),
        "after": _json(change.after),
    }
    if row["before"] and row["before"] == row["after"]:
        return
    owner = next(iter(scope_places(connection, change.resource)), None)
    _append(connection, row | {"account_id": owner.account_id if owner is not None else "", "told_id": None})


def append(connection: Connection, told: Told) -> None:
    """Writes a change down that another role made, unless it is there already."""
    if connection.scalar(select(_E.id).where(_E.told_id == told.id)) is None:
        row = {name: value for name, value in told._asdict().items() if name != "id"}
        _append(connection, row | {"account_id": "", "told_id": told.id})


def _append(connection: Connection, row: dict[str, Any]) -> None:
    last = connection.scalar(select(_E.digest).order_by(_E.id.desc()).limit(1))
    digest = _digest(last or FIRST, row)
    connection.execute(insert(schema.audit_events).values(row | {"digest": digest}))
    # also where nobody who writes to the database can reach it: whoever keeps the logs can prove what was here
    _log.info(
        "administrative change",
        actor=row["actor"],
        action=row["action"],
        resource=row["resource"],
        digest=digest.hex(),
    )


def _json(state: State) -> str:
    if isinstance(state, Message):
        state = json_format.MessageToDict(state, preserving_proto_field_name=True)
    return orjson.dumps(state, option=orjson.OPT_SORT_KEYS).decode() if state else ""


def _digest(before: bytes, row: Any) -> bytes:
    names = ["time", "actor", "action", "resource", "before", "after"]
    if row["account_id"]:  # events of earlier versions say nothing of it
        names.append("account_id")
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

    def record(self, connection: Connection, change: Change) -> None:
        """Writes a change down now, in the transaction that makes it."""
        record(connection, change, round(self._now() * 1e6))

    async def page(self, page: Page) -> tuple[list[Event], str]:
        """A page of events, newest first, and the token that asks for the next; empty on the last."""
        query = select(schema.audit_events).where(*page.wanted)
        query = page.ordered(query.where(*within(schema.audit_events, page.reach)), _E.id)
        found = await self._database.read(lambda connection: connection.execute(query).all())
        events = [Event(*row) for row in found[: page.size]]
        return events, token(events[-1].id) if len(found) > page.size else ""

    async def intact(self) -> bool:
        """Whether no event was changed or removed since it was written, the last ones left aside."""
        return not (await self.check()).broken

    async def check(self, known: int = 0, digest: bytes = b"") -> Check:
        """Whether the log is as it was written.

        Args:
            known: An event that was seen before; 0 for none. It shows that the end was not cut off since, and that the
                log was not written anew as a whole.
            digest: Its digest then.
        """
        return await self._database.read(lambda connection: _check(connection, known, digest))


def _check(connection: Connection, known: int, digest: bytes) -> Check:
    before, last, events, broken = FIRST, 0, 0, 0
    for row in connection.execute(select(schema.audit_events).order_by(_E.id)).mappings():
        wrong = row["digest"] != _digest(before, row) or (row["id"] == known and row["digest"] != digest)
        if not broken and (wrong or last < known < row["id"]):
            broken = row["id"]
        before, last, events = row["digest"], row["id"], events + 1
    if not broken and known > last:
        broken = known
    return Check(events, broken, last, before)
