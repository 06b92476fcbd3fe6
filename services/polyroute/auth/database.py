"""The SQLite file under auth: how it is opened, read and written.

Reads and writes have connections of their own. In WAL mode readers never wait for the writer, and one writing
connection makes this process's writers queue here, in order, instead of polling SQLite's lock.
"""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError
from polyroute.mesh.sqlite import open_engine

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
    # the driver would begin transactions by its own rules, and too late
    return open_engine(path, pragmas=("foreign_keys=ON",), driver_begins=False, **options)


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
