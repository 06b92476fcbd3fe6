"""The router's own database: every statement that touches it.

Several router processes share it: one writes at a time, readers never wait.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, NamedTuple, Self

import structlog
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from polyroute.api.errors.v1.errors_pb2 import REASON_USAGE_UNAVAILABLE
from polyroute.mesh.database import Location, driver_sql, insert_for, on_postgresql
from polyroute.mesh.errors import MeshError
from polyroute.mesh.rows import insertions
from polyroute.router import schema
from polyroute.router.migrations.history import HISTORY

KEPT_VERSIONS: Final = 1000
_STEP: Final = 5000  # decisions that one statement deletes: nobody waits long for the database
_SAMPLE: Final = 1000  # newest decisions that say how large one is
_ROW_BYTES: Final = 150  # what PostgreSQL adds to a row and to its indexes, about
_D: Final = schema.decisions.c
_S: Final = schema.slates.c
_V: Final = schema.versions.c
_R: Final = schema.rollouts.c
_C: Final = schema.changes.c
# Written here and not by SQLAlchemy, whose way of binding a row by name costs more than a database's of storing it.
_INTO_DECISIONS: Final = "INSERT INTO decisions (request_id, time_us, slate, planned, record)"
_DECISION: Final = "(?, ?, ?, ?, ?)"
_REPLACED: Final = (
    "ON CONFLICT (request_id) DO UPDATE SET time_us = excluded.time_us, slate = excluded.slate, "
    "planned = excluded.planned, record = excluded.record"
)
_KEEP_SLATE: Final = (
    "INSERT INTO slates (digest, used_us, record) VALUES (?, ?, ?) "
    "ON CONFLICT (digest) DO UPDATE SET used_us = "
    "CASE WHEN slates.used_us > excluded.used_us THEN slates.used_us ELSE excluded.used_us END"
)

_log = structlog.get_logger("router")


class DecisionRow(NamedTuple):
    """A decision as it is stored: microseconds since 1970, the digest of its slate, its plan, a `DecisionRecord`."""

    request_id: str
    time_us: int
    slate: bytes
    planned: str
    record: bytes


class Kept(NamedTuple):
    """A decision as it is read: its plan, its own record, and the compressed record that it shares."""

    planned: str
    record: bytes
    shared: bytes


class SlateRow(NamedTuple):
    """What decisions share: its digest, the time of the last of them, a compressed `DecisionRecord`."""

    digest: bytes
    used_us: int
    record: bytes


class VersionRow(NamedTuple):
    """A version of the catalog; the columns of `schema.versions`, `number` being 0 until it is stored."""

    number: int
    source: str
    version: str
    time_us: int
    author: str
    note: str
    text: str


class ChangeRow(NamedTuple):
    """A change of the catalog that auth is to be told; the columns of `schema.changes` but its number."""

    id: str
    time_us: int
    actor: str
    action: str
    before: str
    after: str


Changing = Callable[[VersionRow, VersionRow], ChangeRow]
"""Gives the change from one version to the next."""


class RolloutRow(NamedTuple):
    """How far a rollout is; the columns of `schema.rollouts`."""

    alias: str
    plan: str
    state: str
    step: int
    began_us: int
    since_us: int
    reason: str
    judged: float


class Store:
    """The database.

    Every method raises `MeshError` with REASON_USAGE_UNAVAILABLE when the database does not do its part.
    """

    def __init__(self, writer: AsyncEngine, readers: AsyncEngine) -> None:
        self._writer = writer
        self._readers = readers

    @classmethod
    @asynccontextmanager
    async def open(cls, location: Location) -> AsyncGenerator[Self]:
        """The store in a database, with its tables; closed at the end.

        Raises:
            UnusableDatabaseError: The database was made by a newer version of the program.
        """
        await HISTORY.upgrade(location)
        writer, readers = location.writer(), location.readers()
        try:
            yield cls(writer, readers)
        finally:
            await readers.dispose()
            await writer.dispose()

    # --- decisions

    async def keep(self, decisions: Sequence[DecisionRow], slates: Sequence[SlateRow]) -> None:
        """Stores decisions and what they share, in one transaction. A call that is decided again replaces its own."""
        async with self._writing() as connection:
            if slates:
                await connection.exec_driver_sql(driver_sql(connection, _KEEP_SLATE), list(slates))
            last = list({row.request_id: row for row in decisions}.values())
            for statement, values in insertions(_INTO_DECISIONS, _DECISION, last, _REPLACED):
                await connection.exec_driver_sql(driver_sql(connection, statement), values)

    async def decision(self, request_id: str) -> Kept | None:
        """A decision; None when none is kept."""
        query = select(_D.planned, _D.record, _S.record).join(schema.slates, _S.digest == _D.slate)
        found = await self._read(query.where(_D.request_id == request_id))
        return Kept(*found[0]) if found else None

    async def decisions(self, start_us: int, end_us: int, after: int, limit: int) -> list[tuple[int, bytes, bytes]]:
        """Number, digest of the slate and record of decisions in the order of their storing, from `after` on."""
        query = (
            select(_D.number, _D.slate, _D.record)
            .where(_D.number > after, _D.time_us >= start_us, _D.time_us < end_us)
            .order_by(_D.number)
            .limit(limit)
        )
        return [(row[0], row[1], row[2]) for row in await self._read(query)]

    async def slates(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """What decisions share, by digest."""
        query = select(_S.digest, _S.record).where(_S.digest.in_(digests))
        return {row[0]: row[1] for row in await self._read(query)}

    async def forget(self, before_us: int, max_bytes: int) -> int:
        """Deletes decisions that are too old, and the oldest while there is too much; gives how many."""
        deleted = await self._forget_older(before_us)
        while await self._bytes() > max_bytes:
            oldest = select(_D.number).order_by(_D.number).limit(_STEP)
            gone = await self._delete_decisions(oldest)
            deleted += gone
            if not gone:
                break
        return deleted

    async def _forget_older(self, before_us: int) -> int:
        deleted = 0
        while True:
            gone = await self._delete_decisions(select(_D.number).where(_D.time_us < before_us).limit(_STEP))
            deleted += gone
            if gone < _STEP:
                return deleted

    async def _delete_decisions(self, numbers: Any) -> int:
        """Deletes decisions, and the slates that none of those that are left can name."""
        async with self._writing() as connection:
            gone = (await connection.execute(delete(schema.decisions).where(_D.number.in_(numbers)))).rowcount
            if gone:
                oldest = (await connection.execute(select(func.min(_D.time_us)))).scalar()
                unused = delete(schema.slates)
                await connection.execute(unused if oldest is None else unused.where(_S.used_us < oldest))
            return gone

    async def _bytes(self) -> int:
        """What decisions and slates take, without the room that deleted rows left."""
        if on_postgresql(self._readers):
            return await self._bytes_of_rows()
        pages, free, size = [
            (await self._read(text(f"PRAGMA {name}")))[0][0] for name in ("page_count", "freelist_count", "page_size")
        ]
        return int((pages - free) * size)

    async def _bytes_of_rows(self) -> int:
        """About what the rows take: PostgreSQL's own figures count what was deleted until it has cleaned up."""
        newest = select(schema.decisions).order_by(_D.number.desc()).limit(_SAMPLE).subquery()
        lengths = [func.octet_length(newest.c[name]) for name in ("slate", "planned", "record")]
        one = select(func.avg(lengths[0] + lengths[1] + lengths[2])).scalar_subquery()
        rows = select(func.coalesce(func.max(_D.number) - func.min(_D.number) + 1, 0)).scalar_subquery()
        shared = select(func.coalesce(func.sum(func.octet_length(_S.record)), 0)).scalar_subquery()
        found = (await self._read(select(one, rows, shared)))[0]
        return int(((found[0] or 0) + _ROW_BYTES) * found[1] + found[2])

    # --- versions of the catalog

    @asynccontextmanager
    async def recording(self, row: VersionRow, changing: Changing) -> AsyncGenerator[int]:
        """Stores a version unless the newest one says the same, when the body succeeds; gives the newest number.

        With it goes the change from the newest one, to be told; the first version of all changes nothing. Nobody else
        can write while the body runs.
        """
        async with self._writing() as connection:
            found = (
                await connection.execute(select(schema.versions).order_by(_V.number.desc()).limit(1))
            ).one_or_none()
            newest = None if found is None else VersionRow(*found)
            if newest is not None and newest.source == row.source:
                yield newest.number
                return
            values = {name: value for name, value in row._asdict().items() if name != "number"}
            stored = await connection.execute(insert(schema.versions).values(values))
            (number,) = stored.inserted_primary_key or (0,)
            if newest is not None:
                change = await asyncio.to_thread(changing, newest, row._replace(number=number))
                await connection.execute(insert(schema.changes).values(change._asdict()))
            yield number
            await connection.execute(delete(schema.versions).where(_V.number <= number - KEPT_VERSIONS))

    async def versions(self, before: int, limit: int) -> list[VersionRow]:
        """Versions, newest first, those before a number; 0 means from the newest on."""
        query = select(schema.versions).order_by(_V.number.desc()).limit(limit)
        if before:
            query = query.where(_V.number < before)
        return [VersionRow(*row) for row in await self._read(query)]

    async def version(self, name: str) -> VersionRow | None:
        """A version by its number, or the newest that has this digest; the newest of all without a name."""
        query = select(schema.versions).order_by(_V.number.desc()).limit(1)
        if name.isdecimal() and len(name) < 10:  # twelve digits are a digest
            query = query.where(_V.number == int(name))
        elif name:
            query = query.where(_V.version == name)
        found = await self._read(query)
        return VersionRow(*found[0]) if found else None

    # --- changes to be told

    async def untold(self, limit: int) -> list[ChangeRow]:
        """Changes that auth has not, oldest first."""
        columns = [_C[name] for name in ChangeRow._fields]
        return [ChangeRow(*row) for row in await self._read(select(*columns).order_by(_C.number).limit(limit))]

    async def told(self, changes: Sequence[ChangeRow]) -> None:
        """Auth has these."""
        async with self._writing() as connection:
            await connection.execute(delete(schema.changes).where(_C.id.in_([change.id for change in changes])))

    # --- rollouts

    async def rollouts(self) -> list[RolloutRow]:
        """How far each rollout is."""
        return [RolloutRow(*row) for row in await self._read(select(schema.rollouts))]

    async def begin_rollout(self, row: RolloutRow) -> None:
        """Stores a rollout that begins, unless it has begun already."""
        each = insert_for(self._writer)(schema.rollouts)
        each = each.on_conflict_do_update(
            index_elements=[_R.alias],
            set_={name: getattr(each.excluded, name) for name in RolloutRow._fields[1:]},
            where=_R.plan != each.excluded.plan,
        )
        async with self._writing() as connection:
            await connection.execute(each, [row._asdict()])

    async def claim_rollout(self, alias: str, now: float, interval: float) -> bool:
        """Whether this process is the one to evaluate a rollout now: one in each interval, for all processes."""
        mine = update(schema.rollouts).where(_R.alias == alias, _R.judged <= now - interval).values(judged=now)
        async with self._writing() as connection:
            return bool((await connection.execute(mine)).rowcount)

    async def move_rollout(self, before: RolloutRow, after: RolloutRow) -> bool:
        """Stores how far a rollout is now, unless somebody else has moved it since `before`."""
        mine = (
            update(schema.rollouts)
            .where(
                _R.alias == before.alias,
                _R.plan == before.plan,
                _R.state == before.state,
                _R.step == before.step,
            )
            .values(after._asdict())
        )
        async with self._writing() as connection:
            return bool((await connection.execute(mine)).rowcount)

    # --- connections

    async def _read(self, query: Any) -> Sequence[Any]:
        with _answering():
            async with self._readers.connect() as connection:
                return (await connection.execute(query)).all()

    @asynccontextmanager
    async def _writing(self) -> AsyncGenerator[AsyncConnection]:
        """A transaction that nobody else writes beside."""
        with _answering():
            async with self._writer.begin() as connection:
                yield connection


@contextmanager
def _answering() -> Generator[None]:
    """Turns a database that does not do its part into the refusal that callers may repeat."""
    try:
        yield
    except (DBAPIError, PoolTimeoutError) as error:
        _log.error("router database failed", error=str(error))
        raise MeshError(
            REASON_USAGE_UNAVAILABLE, "the database of decisions does not answer", retry_after=1.0
        ) from error
