"""The SQLite file under auth: how it is opened, read and written.

Reads and writes have connections of their own. In WAL mode readers never wait for the writer, and one writing
connection makes this process's writers queue here, in order, instead of polling SQLite's lock.
"""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import URL, Connection, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError

LOCK_SECONDS: Final = 5.0  # how long to wait for another process's write, or for a connection of ours
_READERS: Final = 2

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

    async def close(self) -> None:
        """Closes every connection."""
        await self._readers.dispose()
        await self._writer.dispose()


def _engine(path: Path, **options: Any) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        hide_parameters=True,  # an error's text must not carry what was being stored
        max_overflow=0,
        pool_timeout=LOCK_SECONDS,
        **options,
    )
    event.listen(engine.sync_engine, "connect", _prepare)
    return engine


def _prepare(connection: Any, _record: object) -> None:
    """Sets up a new connection of the driver."""
    connection.isolation_level = None  # the driver would begin transactions by its own rules, and too late
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={LOCK_SECONDS * 1000:.0f}",
        "journal_mode=WAL",
        "synchronous=FULL",  # what was committed is on the disk: a power cut must not bring a revoked key back
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


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
