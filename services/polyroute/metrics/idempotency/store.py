"""Entries on disk: claimed by one call at a time, given back when their lease lapses, kept for a day when done.

Every change compares the claim that it was based on, so that of two calls that want one entry exactly one gets it,
and a call that lost its lease changes nothing any more.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import structlog
from sqlalchemy import ColumnElement, and_, delete, func, or_, select, text, tuple_, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.idempotency.v1 import idempotency_pb2 as pb
from polyroute.mesh.database import Location, insert_for
from polyroute.mesh.errors import MeshError
from polyroute.metrics.idempotency import schema

KEPT_SECONDS: Final = 24 * 3600.0
SWEEP_SECONDS: Final = 60.0
MOST_ENTRIES: Final = 2_000_000  # beyond these the oldest are forgotten; a row without its answer is about 300 bytes
_BATCH: Final = 500
_MOST_HELD: Final = 10_000
_HELD_FOR: Final = 1_000_000  # microseconds: duplicates come in bursts, and only the first is worth a transaction
_MILLION: Final = 1_000_000

_T: Final = schema.entries.c
_log = structlog.get_logger("idempotency")


@dataclass(frozen=True, slots=True)
class Found:
    """What a claim met.

    Attributes:
        state: CLAIMED when the entry is the asking call's own now.
        claim: The call that has the entry, or had it.
        answer: What it answered, when that is kept.
    """

    state: pb.EntryState.ValueType
    claim: str
    answer: pb.Answer | None = None


@dataclass(frozen=True, slots=True)
class _Held:
    """Who was given an entry, and until when (microseconds) that is believed without looking."""

    fingerprint: bytes
    claim: str
    until: int


class Store:
    """The entries.

    Every method raises `MeshError` with REASON_SERVICE_UNAVAILABLE when the database does not do its part.

    Args:
        writer: One connection.
        readers: Connections for single statements.
        clock: Seconds since the Unix epoch: the one clock by which leases are judged.
        most_bytes: Of answers together; beyond them the oldest are dropped.
    """

    def __init__(
        self, writer: AsyncEngine, readers: AsyncEngine, clock: Callable[[], float], *, most_bytes: int
    ) -> None:
        self._writer = writer
        self._readers = readers
        self._clock = clock
        self._most_bytes = most_bytes
        self._held: dict[bytes, _Held] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, location: Location, clock: Callable[[], float], *, most_bytes: int) -> AsyncGenerator[Self]:
        """The store at `location`, created when missing."""
        writer, readers = location.writer(), location.readers()
        try:
            async with writer.begin() as connection:
                if location.url is not None:
                    await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{location.schema}"'))
                await connection.run_sync(schema.metadata.create_all)
            yield cls(writer, readers, clock, most_bytes=most_bytes)
        finally:
            await readers.dispose()
            await writer.dispose()

    async def claim(self, entry: bytes, fingerprint: bytes, claim: str, lease: float) -> Found:
        """Takes an entry for the call `claim`, or says what there is.

        Args:
            entry: Its id.
            fingerprint: Of the request.
            claim: The call's id.
            lease: Seconds for which it is the call's own.
        """
        now = self._now()
        if (held := self._held_by_another(entry, fingerprint, claim, now)) is not None:
            return held
        found = await self._look(entry)
        if found is None or _free(found, now) or _own(found, claim):
            if (held := self._held_by_another(entry, fingerprint, claim, now)) is not None:
                return held
            if await self._taken(entry, fingerprint, claim, now, lease, found):
                return Found(pb.ENTRY_STATE_CLAIMED, claim)
            found = await self._look(entry)
        if found is None:  # another call had it for a moment: whoever asks again gets it
            return Found(pb.ENTRY_STATE_RUNNING, "")
        return await self._met(entry, fingerprint, found)

    async def renew(self, running: Sequence[tuple[bytes, str]], lease: float) -> None:
        """Prolongs the leases of calls under way: pairs of entry and claim."""
        until = self._now() + int(lease * _MILLION)
        mine = and_(tuple_(_T.id, _T.claim).in_(running), _T.state == pb.ENTRY_STATE_RUNNING)
        async with self._writing() as connection:
            await connection.execute(update(schema.entries).where(mine).values(lease=until))

    async def keep(self, entry: bytes, claim: str, answer: pb.Answer | None) -> bool:
        """Ends a claim with an answer, or with one that is too large to keep; whether the claim still stood."""
        values: dict[str, Any] = {"state": pb.ENTRY_STATE_NOT_KEPT}
        if answer is not None:
            values = {
                "state": pb.ENTRY_STATE_DONE,
                "status": answer.status,
                "content_type": answer.content_type,
                "answer": answer.sealed,
                "size": len(answer.sealed),
            }
        async with self._writing() as connection:
            result = await connection.execute(update(schema.entries).where(_held(entry, claim)).values(**values))
        self._forget(entry, claim)
        return bool(result.rowcount)

    async def release(self, entry: bytes, claim: str) -> None:
        """Gives an entry back."""
        async with self._writing() as connection:
            await connection.execute(delete(schema.entries).where(_held(entry, claim)))
        self._forget(entry, claim)

    def _forget(self, entry: bytes, claim: str) -> None:
        held = self._held.get(entry)
        if held is not None and held.claim == claim:
            del self._held[entry]

    async def sweep(self) -> None:
        """Forgets what is too old, what nobody has any more and, beyond the bounds, the oldest."""
        now = self._now()
        lapsed = and_(_T.state == pb.ENTRY_STATE_RUNNING, _T.lease <= now)
        async with self._writing() as connection:
            await connection.execute(delete(schema.entries).where(or_(_T.expires <= now, lapsed)))
        while await self._drop_answers():
            pass
        await self._drop_entries()

    async def run(self) -> None:
        """Sweeps for ever."""
        while True:
            await self.sweep()
            await asyncio.sleep(SWEEP_SECONDS)

    def _held_by_another(self, entry: bytes, fingerprint: bytes, claim: str, now: int) -> Found | None:
        """What is known without a look into the database: that another call was given the entry a moment ago."""
        held = self._held.get(entry)
        if held is None or held.until <= now or held.claim == claim:
            return None
        same = held.fingerprint == fingerprint
        return Found(pb.ENTRY_STATE_RUNNING if same else pb.ENTRY_STATE_MISMATCH, held.claim)

    async def _taken(self, entry: bytes, fingerprint: bytes, claim: str, now: int, lease: float, found: Any) -> bool:
        if len(self._held) >= _MOST_HELD:
            self._held.clear()
        held = self._held[entry] = _Held(fingerprint, claim, now + _HELD_FOR)
        taken = False
        try:
            taken = await self._take(entry, fingerprint, claim, now, lease, found)
        finally:
            if not taken and self._held.get(entry) is held:
                del self._held[entry]
        return taken

    async def _look(self, entry: bytes) -> Any:
        query = select(_T.fingerprint, _T.state, _T.claim, _T.lease, _T.expires).where(_T.id == entry)
        with _answering():
            async with self._readers.connect() as connection:
                return (await connection.execute(query)).first()

    async def _take(self, entry: bytes, fingerprint: bytes, claim: str, now: int, lease: float, found: Any) -> bool:
        values = {
            "fingerprint": fingerprint,
            "state": pb.ENTRY_STATE_RUNNING,
            "claim": claim,
            "lease": now + int(lease * _MILLION),
            "expires": now + int(KEPT_SECONDS * _MILLION),
            "size": 0,
            "status": 0,
            "content_type": "",
            "answer": None,
        }
        async with self._writing() as connection:
            if found is None:
                insert = insert_for(connection)(schema.entries).values(id=entry, **values).on_conflict_do_nothing()
                return bool((await connection.execute(insert)).rowcount)
            same = and_(_T.id == entry, _T.claim == found.claim, _T.state == found.state, _T.lease == found.lease)
            return bool((await connection.execute(update(schema.entries).where(same).values(**values))).rowcount)

    async def _met(self, entry: bytes, fingerprint: bytes, found: Any) -> Found:
        if found.fingerprint != fingerprint:
            return Found(pb.ENTRY_STATE_MISMATCH, found.claim)
        if found.state != pb.ENTRY_STATE_DONE:
            return Found(found.state, found.claim)
        query = select(_T.status, _T.content_type, _T.answer).where(_T.id == entry, _T.claim == found.claim)
        with _answering():
            async with self._readers.connect() as connection:
                row = (await connection.execute(query)).first()
        if row is None or row.answer is None:  # dropped a moment ago
            return Found(pb.ENTRY_STATE_NOT_KEPT, found.claim)
        answer = pb.Answer(status=row.status, content_type=row.content_type, sealed=row.answer)
        return Found(pb.ENTRY_STATE_DONE, found.claim, answer)

    async def _drop_answers(self) -> bool:
        """Drops some of the oldest answers when all together are too many bytes; whether there may be more to drop."""
        async with self._writing() as connection:
            over = (await connection.execute(select(func.coalesce(func.sum(_T.size), 0)))).scalar_one()
            over -= self._most_bytes
            if over <= 0:
                return False
            oldest = select(_T.id, _T.size).where(_T.size > 0).order_by(_T.expires).limit(_BATCH)
            dropped = []
            for row in await connection.execute(oldest):
                if over <= 0:
                    break
                dropped.append(row.id)
                over -= row.size
            gone = {"state": pb.ENTRY_STATE_NOT_KEPT, "size": 0, "answer": None}
            await connection.execute(update(schema.entries).where(_T.id.in_(dropped)).values(**gone))
        _log.warning("answers dropped for want of room", answers=len(dropped))
        return bool(over > 0)

    async def _drop_entries(self) -> None:
        async with self._writing() as connection:
            count = (await connection.execute(select(func.count()).select_from(schema.entries))).scalar_one()
            if count <= MOST_ENTRIES:
                return
            oldest = select(_T.id).order_by(_T.expires).limit(count - MOST_ENTRIES)
            await connection.execute(delete(schema.entries).where(_T.id.in_(oldest)))
        _log.warning("entries forgotten for want of room", entries=count - MOST_ENTRIES)

    @asynccontextmanager
    async def _writing(self) -> AsyncGenerator[AsyncConnection]:
        with _answering():
            async with self._writer.begin() as connection:
                yield connection

    def _now(self) -> int:
        return int(self._clock() * _MILLION)


def _free(found: Any, now: int) -> bool:
    """Whether an entry is anybody's: it is too old, or its call was lost."""
    return bool(found.expires <= now or (found.state == pb.ENTRY_STATE_RUNNING and found.lease <= now))


def _own(found: Any, claim: str) -> bool:
    """Whether the asking call has the entry already: its first request was heard, and the answer was lost."""
    return bool(found.state == pb.ENTRY_STATE_RUNNING and found.claim == claim)


def _held(entry: bytes, claim: str) -> ColumnElement[bool]:
    return and_(_T.id == entry, _T.claim == claim, _T.state == pb.ENTRY_STATE_RUNNING)


@contextmanager
def _answering() -> Generator[None]:
    """Turns a database that does not do its part into the refusal that callers may repeat."""
    try:
        yield
    except (DBAPIError, PoolTimeoutError) as error:
        _log.error("idempotency database failed", error=str(error))
        raise MeshError(
            errors_pb2.REASON_SERVICE_UNAVAILABLE, "the database of idempotency keys does not answer", retry_after=1.0
        ) from error
