"""The database under auth: how it is opened, read and written.

Reads and writes have connections of their own: readers never wait for the writer, and one writing connection makes this
process's writers queue here, in order, instead of asking the database for its lock again and again.

Money has connections beside those: its transactions are of a dozen statements, and each statement of an asynchronous
connection costs two changes of threads, several times what SQLite needs for it. They run whole in a thread instead.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, TypeVar

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, PendingRollbackError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.flights import Shelter
from polyroute.mesh.database import Location
from polyroute.mesh.errors import MeshError

UNANSWERED: Final = (
    OperationalError,
    InterfaceError,
    InternalError,
    ProgrammingError,
    PendingRollbackError,
    PoolTimeoutError,
)
"""What is raised where the database is not there, is damaged, or does not answer in time."""

T = TypeVar("T")

Also = Callable[[Connection, T], None]
"""What is done beside a change, in its transaction, with the outcome."""

_log = structlog.get_logger()


def nothing(_connection: Connection, _outcome: object) -> None:
    """Is done where nothing is to be done beside a change."""


class Database:
    """The connections to one database.

    Args:
        location: Where it is.
    """

    def __init__(self, location: Location) -> None:
        self._readers = location.readers()
        self._writer = location.writer()
        self._thread_reader = location.thread_reader()
        self._thread_writer = location.thread_writer()
        self._threads = Shelter()

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection]:
        """A connection for single statements that read."""
        with _answering():
            async with self._readers.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[AsyncConnection]:
        """A transaction that no other writer can come between; committed at the end, rolled back on an exception."""
        with _answering():
            async with self._writer.begin() as connection:
                yield connection

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` finds, in a thread, at one moment of the database."""
        return await self._threads.run(asyncio.to_thread(_transacted, self._thread_reader, work))

    async def write(self, work: Callable[[Connection], T]) -> T:
        """What comes of `work`, in a thread, in a transaction that no other writer can come between."""
        return await self._threads.run(asyncio.to_thread(_transacted, self._thread_writer, work))

    async def close(self) -> None:
        """Closes every connection."""
        await self._threads.close()
        self._thread_reader.dispose()
        self._thread_writer.dispose()
        await self._readers.dispose()
        await self._writer.dispose()


def _transacted(engine: Engine, work: Callable[[Connection], T]) -> T:
    with _answering(), engine.begin() as connection:
        return work(connection)


@contextmanager
def _answering() -> Generator[None]:
    """Turns a database that does not answer into the refusal that callers may repeat."""
    try:
        yield
    except UNANSWERED as error:
        _log.warning("auth database failed", error=str(error))
        raise MeshError(
            errors_pb2.REASON_SERVICE_UNAVAILABLE, "the database of keys does not answer", retry_after=1.0
        ) from error
