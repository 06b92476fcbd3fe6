"""How a service opens its SQLite file: write-ahead log, commits on the disk, bounded waits, no values in errors."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

LOCK_SECONDS: Final = 5.0  # how long to wait for another process's write, or for a connection of ours


def open_engine(path: Path, *, pragmas: Iterable[str] = (), driver_begins: bool = True, **options: Any) -> AsyncEngine:
    """An engine for the file at `path`.

    Args:
        path: The file.
        pragmas: Set on each connection beside those that every service has.
        driver_begins: The driver begins transactions by its own rules; False where the service does.
        options: For SQLAlchemy's engine, the size of the pool among them.
    """
    settings = (
        f"busy_timeout={LOCK_SECONDS * 1000:.0f}",
        "journal_mode=WAL",
        "synchronous=FULL",  # what was committed is on the disk, also after a power cut
        *pragmas,
    )

    def prepare(connection: Any, _record: object) -> None:
        if not driver_begins:
            connection.isolation_level = None
        cursor = connection.cursor()
        for setting in settings:
            cursor.execute(f"PRAGMA {setting}")
        cursor.close()

    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        hide_parameters=True,  # an error's text must not carry what was being stored
        max_overflow=0,
        pool_timeout=LOCK_SECONDS,
        **options,
    )
    event.listen(engine.sync_engine, "connect", prepare)
    return engine
