"""Entries on disk. Changes are made in batches, each in a transaction that has the table to itself.

A duplicate costs a row of one `SELECT`, a call that is made two commits that it shares with all others of its moment.
Answers are read beside the changes, few at a time: one may have 8 MiB.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Self

import structlog
from sqlalchemy import Connection, Engine, and_, bindparam, delete, func, or_, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.idempotency.v1 import idempotency_pb2 as pb
from polyroute.mesh.database import Location, insert_for, on_postgresql
from polyroute.mesh.errors import MeshError
from polyroute.metrics.idempotency import schema
from polyroute.metrics.idempotency.batches import Batches
from polyroute.metrics.idempotency.entries import Change, Claim, Entry, Found, Keep, Prolong, Release
from polyroute.metrics.idempotency.migrations.history import HISTORY

SWEEP_SECONDS: Final = 60.0
MOST_ENTRIES: Final = 2_000_000  # beyond these the oldest are forgotten; a row without its answer is about 300 bytes
_MOST_ANSWERS: Final = 8  # read at once
_BATCH: Final = 500
_MILLION: Final = 1_000_000

_DATABASE_TIME: Final = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
_T: Final = schema.entries.c
_log = structlog.get_logger("idempotency")
# made once: to make a statement anew costs SQLAlchemy several times what SQLite needs to run it
_LOOK: Final = select(_T.id, _T.fingerprint, _T.state, _T.claim, _T.lease, _T.expires).where(
    _T.id.in_(bindparam("ids", expanding=True))
)
_ANSWERS: Final = select(_T.id, _T.claim, _T.status, _T.content_type, _T.answer).where(
    _T.id.in_(bindparam("ids", expanding=True)), _T.answer.is_not(None)
)
_GONE: Final = delete(schema.entries).where(_T.id.in_(bindparam("ids", expanding=True)))


class Store:
    """The entries.

    Every method raises `MeshError` with REASON_SERVICE_UNAVAILABLE when the database does not do its part.

    Args:
        writer: One connection, whose transactions no other can come between.
        reader: One connection.
        clock: Seconds since the Unix epoch, by which leases are judged where files are the database; PostgreSQL has a
            clock of its own, on which all that share it agree.
        most_bytes: Of answers together; beyond them the oldest are dropped.
    """

    def __init__(self, writer: Engine, reader: Engine, clock: Callable[[], float], *, most_bytes: int) -> None:
        self._writer = writer
        self._reader = reader
        self._clock = clock
        self._most_bytes = most_bytes
        self._sweeping: asyncio.Future[None] | None = None
        self._changes: Batches[Change, Any] = Batches(self._changed)
        self._answers: Batches[bytes, tuple[str, pb.Answer] | None] = Batches(self._read, _MOST_ANSWERS)

    @classmethod
    @asynccontextmanager
    async def open(cls, location: Location, clock: Callable[[], float], *, most_bytes: int) -> AsyncGenerator[Self]:
        """The store at `location`, created when missing."""
        await HISTORY.upgrade(location)
        writer, reader = location.thread_writer(), location.thread_reader()
        try:
            store = cls(writer, reader, clock, most_bytes=most_bytes)
            yield store
            await store.close()
        finally:
            reader.dispose()
            writer.dispose()

    async def claim(self, entry: bytes, fingerprint: bytes, claim: str, lease: float) -> Found:
        """Takes an entry for the call `claim`, or says what there is.

        Args:
            entry: Its id.
            fingerprint: Of the request.
            claim: The call's id.
            lease: Seconds for which it is the call's own.
        """
        found: Found = await self._changes.run(Claim(entry, fingerprint, claim, lease))
        if found.state != pb.ENTRY_STATE_DONE:
            return found
        kept = await self._answers.run(entry)
        if kept is None or kept[0] != found.claim:  # dropped a moment ago
            return Found(pb.ENTRY_STATE_NOT_KEPT, found.claim)
        return Found(found.state, found.claim, kept[1])

    async def renew(self, running: Sequence[tuple[bytes, str]], lease: float) -> None:
        """Prolongs the leases of calls under way: pairs of entry and claim."""
        await asyncio.gather(*(self._changes.run(Prolong(entry, claim, lease)) for entry, claim in running))

    async def keep(self, entry: bytes, claim: str, answer: pb.Answer | None) -> bool:
        """Ends a claim with an answer, or with one that is too large to keep; whether the claim still stood."""
        return bool(await self._changes.run(Keep(entry, claim, answer)))

    async def release(self, entry: bytes, claim: str) -> None:
        """Gives an entry back."""
        await self._changes.run(Release(entry, claim))

    async def sweep(self) -> None:
        """Forgets what is too old, what nobody has any more and, beyond the bounds, the oldest."""
        self._sweeping = asyncio.ensure_future(asyncio.to_thread(self._swept))
        await asyncio.shield(self._sweeping)  # whoever is cancelled leaves a thread behind, which `close` waits for

    async def run(self) -> None:
        """Sweeps for ever."""
        while True:
            await self.sweep()
            await asyncio.sleep(SWEEP_SECONDS)

    async def close(self) -> None:
        """Waits for what was begun."""
        if self._sweeping is not None:
            await asyncio.wait((self._sweeping,))
        await self._changes.close()
        await self._answers.close()

    def _changed(self, changes: Sequence[Change]) -> list[Any]:
        """What each of the changes met, once all of them are on the disk."""
        outcomes = []
        with transaction(self._writer) as connection:
            now = self._micros(connection)
            rows = connection.execute(_LOOK, {"ids": list({change.id for change in changes})})
            before = {row.id: Entry(row.fingerprint, row.state, row.claim, row.lease, row.expires) for row in rows}
            after: dict[bytes, Entry | None] = dict(before)
            for change in changes:
                after[change.id], outcome = change.meets(after.get(change.id), now)
                outcomes.append(outcome)
            _write(connection, {name: entry for name, entry in after.items() if entry is not before.get(name)})
        return outcomes

    def _read(self, ids: Sequence[bytes]) -> list[tuple[str, pb.Answer] | None]:
        """The answers under each id, with the calls that they are the answers of."""
        with transaction(self._reader) as connection:
            rows = connection.execute(_ANSWERS, {"ids": list(set(ids))})
            found = {
                row.id: (row.claim, pb.Answer(status=row.status, content_type=row.content_type, sealed=row.answer))
                for row in rows
            }
        return [found.get(name) for name in ids]

    def _swept(self) -> None:
        with transaction(self._writer) as connection:
            now = self._micros(connection)
            lapsed = and_(_T.state == pb.ENTRY_STATE_RUNNING, _T.lease <= now)
            connection.execute(delete(schema.entries).where(or_(_T.expires <= now, lapsed)))
        while self._drop_answers():
            pass
        self._drop_entries()

    def _micros(self, connection: Connection) -> int:
        if on_postgresql(connection):
            return int(connection.scalar(_DATABASE_TIME) or 0)
        return int(self._clock() * _MILLION)

    def _drop_answers(self) -> bool:
        """Drops some of the oldest answers when all together are too many bytes; whether there may be more to drop."""
        with transaction(self._writer) as connection:
            over = connection.execute(select(func.coalesce(func.sum(_T.size), 0))).scalar_one() - self._most_bytes
            if over <= 0:
                return False
            oldest = select(_T.id, _T.size).where(_T.size > 0).order_by(_T.expires).limit(_BATCH)
            dropped = []
            for row in connection.execute(oldest):
                if over <= 0:
                    break
                dropped.append(row.id)
                over -= row.size
            gone = {"state": pb.ENTRY_STATE_NOT_KEPT, "size": 0, "answer": None}
            connection.execute(update(schema.entries).where(_T.id.in_(dropped)).values(**gone))
        _log.warning("answers dropped for want of room", answers=len(dropped))
        return bool(over > 0)

    def _drop_entries(self) -> None:
        with transaction(self._writer) as connection:
            count = connection.execute(select(func.count()).select_from(schema.entries)).scalar_one()
            if count <= MOST_ENTRIES:
                return
            oldest = select(_T.id).order_by(_T.expires).limit(count - MOST_ENTRIES)
            connection.execute(delete(schema.entries).where(_T.id.in_(oldest)))
        _log.warning("entries forgotten for want of room", entries=count - MOST_ENTRIES)


def _write(connection: Connection, changed: dict[bytes, Entry | None]) -> None:
    """Puts entries in the place of what stands there; None takes it away."""
    gone = [name for name, entry in changed.items() if entry is None]
    if gone:
        connection.execute(_GONE, {"ids": gone})
    rows = list(_rows(changed.items()))
    if rows:
        insert = insert_for(connection)(schema.entries)
        every = {column.name: insert.excluded[column.name] for column in schema.entries.columns if column is not _T.id}
        connection.execute(insert.on_conflict_do_update(index_elements=[_T.id], set_=every), rows)


def _rows(changed: Iterable[tuple[bytes, Entry | None]]) -> Generator[dict[str, Any]]:
    for name, entry in changed:
        if entry is not None:
            answer = entry.answer
            yield {
                "id": name,
                "fingerprint": entry.fingerprint,
                "state": entry.state,
                "claim": entry.claim,
                "lease": entry.lease,
                "expires": entry.expires,
                "size": len(answer.sealed) if answer else 0,
                "status": answer.status if answer else 0,
                "content_type": answer.content_type if answer else "",
                "answer": answer.sealed if answer else None,
            }


@contextmanager
def transaction(engine: Engine) -> Generator[Connection]:
    """A transaction; turns a database that does not do its part into the refusal that callers may repeat."""
    try:
        with engine.begin() as connection:
            yield connection
    except (DBAPIError, PoolTimeoutError) as error:
        _log.error("idempotency database failed", error=str(error))
        raise MeshError(
            errors_pb2.REASON_SERVICE_UNAVAILABLE, "the database of idempotency keys does not answer", retry_after=1.0
        ) from error
