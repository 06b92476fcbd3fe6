"""The SQLite file under auth: how it is opened, read and written.

Reads and writes have connections of their own. In WAL mode readers never wait for the writer, and one writing
connection makes this process's writers queue here, in order, instead of polling SQLite's lock.

Money has connections beside those: its transactions are of a dozen statements, and each statement of an asynchronous
connection costs two changes of threads, several times what SQLite needs for it. They run whole in a thread instead.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
import structlog
from sqlalchemy import URL, ColumnElement, Connection, Engine, create_engine, event, func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.flights import Shelter
from polyroute.mesh.errors import MeshError
from polyroute.mesh.sqlite import LOCK_SECONDS, open_engine

_READERS: Final = 2
_PRAGMAS: Final = (f"busy_timeout={LOCK_SECONDS * 1000:.0f}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")

T = TypeVar("T")

_log = structlog.get_logger()


class Database:
    """One SQLite file.

    Args:
        path: The file; created when missing, readable by its owner only.
    """

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)  # SQLite gives its -wal and -shm files the same mode
        self._readers = _engine(path, pool_size=_READERS, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True)
        self._writer = _engine(path, pool_size=1)
        event.listen(self._writer.sync_engine, "begin", _begin_immediate)
        self._thread_reader = _thread_engine(path, "BEGIN")  # one snapshot for all that is read
        self._thread_writer = _thread_engine(path, "BEGIN IMMEDIATE")
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


def among(column: ColumnElement[str], values: Iterable[str]) -> ColumnElement[bool]:
    """Whether a column has one of many values: one parameter, however many they are, and one statement to prepare."""
    listed = func.json_each(orjson.dumps(list(values)).decode()).table_valued("value")
    return column.in_(select(listed.c.value))


def _engine(path: Path, **options: Any) -> AsyncEngine:
    # the driver would begin transactions by its own rules, and too late
    return open_engine(path, pragmas=("foreign_keys=ON",), driver_begins=False, **options)


def _thread_engine(path: Path, begin: str) -> Engine:
    """An engine whose transactions run in threads, with the settings that every connection to the file has."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        hide_parameters=True,
        pool_size=1,
        max_overflow=0,
        pool_timeout=LOCK_SECONDS,
        connect_args={"check_same_thread": False},  # one thread at a time has it, as the pool sees to
    )

    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _transacted(engine: Engine, work: Callable[[Connection], T]) -> T:
    with _answering(), engine.begin() as connection:
        return work(connection)


def _begin_immediate(connection: Connection) -> None:
    # A transaction that reads first and asks for the write lock later can fail in between; this one waits at the door.
    # https://www.sqlite.org/lang_transaction.html#deferred_immediate_and_exclusive_transactions
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _answering() -> Generator[None]:
    """Turns a database that does not answer into the refusal that callers may repeat."""
    try:
        yield
    except (OperationalError, PoolTimeoutError) as error:
        _log.warning("auth database failed", error=str(error))
        raise MeshError(
            errors_pb2.REASON_SERVICE_UNAVAILABLE, "the database of keys does not answer", retry_after=1.0
        ) from error
