"""The calls on disk, and the sums of them: what is asked of the database, and what it answers.

One thread writes, in transactions of its own; others read, and neither waits for the other.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from time import time
from typing import Self, TypeVar

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from polyroute.api.auth.v1.ledger_pb2 import Adjustment
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.metrics.v1.metrics_pb2 import CallRecord
from polyroute.mesh.database import Location
from polyroute.mesh.errors import MeshError
from polyroute.metrics import adjusting, legacy, retention
from polyroute.metrics.adjusting import Adjusting, Shift
from polyroute.metrics.dictionary import Dictionary
from polyroute.metrics.ingest import Ingest
from polyroute.metrics.listing import Place, newest
from polyroute.metrics.migrations.history import HISTORY
from polyroute.metrics.partitions import DAY_US, is_missing_table
from polyroute.metrics.rows import Row
from polyroute.metrics.sums import Answer, added_up
from polyroute.metrics.usage import By, Filter

T = TypeVar("T")

_log = structlog.get_logger("metrics")


class Store:
    """The calls and their sums.

    Every method raises `MeshError` with REASON_USAGE_UNAVAILABLE when the database does not do its part.

    Args:
        writer: The connection that writes.
        readers: Connections that read.
        clock: Seconds since 1970.

    Attributes:
        shifted: Told of calls whose cost the ledger has changed, once that is on disk.
    """

    def __init__(self, writer: Engine, readers: AsyncEngine, *, clock: Callable[[], float] = time) -> None:
        self._writer = writer
        self._readers = readers
        self._clock = clock
        self._ingest = Ingest(Dictionary())
        self._adjusting = Adjusting(self._ingest)
        self.shifted: Callable[[Shift], None] = _nobody
        self._thread = ThreadPoolExecutor(1, "metrics-writer")

    @classmethod
    @asynccontextmanager
    async def open(cls, location: Location, *, clock: Callable[[], float] = time) -> AsyncGenerator[Self]:
        """The store at a place; what an older version stored there is brought into today's form first."""
        await HISTORY.upgrade(location)
        writer, readers = location.thread_writer(), location.readers()
        store = cls(writer, readers, clock=clock)
        try:
            while await store._write(store._adopt):
                pass
            yield store
        finally:
            await asyncio.to_thread(store._thread.shutdown)  # what is being written ends first
            await readers.dispose()
            writer.dispose()

    async def insert(self, rows: Sequence[Row]) -> Collection[str]:
        """Stores calls in one transaction; the ids of those that were new, on disk when this returns."""
        today = self._today()
        fresh, shifts = await self._write(lambda connection: self._adjusting.store(connection, rows, today))
        self._tell(shifts)
        return [row.request_id for row in fresh]

    async def adjust(self, news: Sequence[Adjustment], sequence: int, *, reset: bool = False) -> None:
        """Has calls and sums say what the ledger says, on disk when this returns; see `Adjusting.apply`."""
        today = self._today()
        self._tell(
            await self._write(lambda connection: self._adjusting.apply(connection, news, sequence, today, reset=reset))
        )

    async def place(self) -> int:
        """The last place of the ledger's adjustments that was reached."""
        return await self._read(adjusting.place)

    async def expire(self, keep: retention.Keep) -> list[str]:
        """Drops what is older than it is kept for; the names of the partitions."""
        now = int(self._clock() * 1e6)
        dropped = await self._write(lambda connection: retention.expire(connection, keep, now))
        if dropped:
            self._ingest.forget()
        return dropped

    async def usage(self, wanted: Filter, by: Sequence[By]) -> Answer:
        """Calls added up; see `added_up`."""
        return await self._read(lambda connection: added_up(connection, wanted, by))

    async def calls(
        self, wanted: Filter, *, limit: int, after: Place | None = None
    ) -> tuple[list[CallRecord], Place | None]:
        """Calls one by one; see `newest`."""
        return await self._read(lambda connection: newest(connection, wanted, limit=limit, after=after))

    def _adopt(self, connection: Connection) -> bool:
        return legacy.adopt(connection, lambda rows: self._adjusting.store(connection, rows, self._today()))

    def _tell(self, shifts: Iterable[Shift]) -> None:
        for shift in shifts:
            self.shifted(shift)

    def _today(self) -> int:
        return int(self._clock() * 1e6) // DAY_US

    async def _read(self, work: Callable[[Connection], T]) -> T:
        with _answering():
            try:
                return await self._asked(work)
            except DBAPIError as error:
                if not is_missing_table(error):
                    raise
            return await self._asked(work)  # a partition was dropped between two statements

    async def _asked(self, work: Callable[[Connection], T]) -> T:
        async with self._readers.connect() as connection:
            return await connection.run_sync(work)

    async def _write(self, work: Callable[[Connection], T]) -> T:
        """Does work in a transaction, in the thread that writes."""

        def transaction() -> T:
            try:
                with self._writer.begin() as connection:
                    return work(connection)
            except BaseException:
                self._ingest.forget()
                raise

        with _answering():
            return await asyncio.get_running_loop().run_in_executor(self._thread, transaction)


def _nobody(_shift: Shift) -> None:
    """Where nobody counts."""


@contextmanager
def _answering() -> Generator[None]:
    """Turns a database that does not do its part into the refusal that callers may repeat."""
    try:
        yield
    except (DBAPIError, PendingRollbackError, PoolTimeoutError) as error:
        _log.error("metrics database failed", error=str(error))
        raise MeshError(
            errors_pb2.REASON_USAGE_UNAVAILABLE, "the database of calls does not answer", retry_after=1.0
        ) from error
