"""How long calls and sums are kept. What is over leaves a whole partition, a month, at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import Connection, text

from polyroute.mesh.database import insert_for, on_postgresql
from polyroute.metrics import adjusting, schema
from polyroute.metrics.dictionary import delete_unused
from polyroute.metrics.partitions import DAY_US, Family, existing

EVERY: Final = 3600.0  # seconds between two looks

_log = structlog.get_logger("metrics")


@dataclass(frozen=True, slots=True)
class Keep:
    """Days that calls, hourly and daily sums are kept at least; 0 is for ever."""

    calls: int = 0
    hourly: int = 0
    daily: int = 0

    def days(self, family: Family) -> int:
        """Of one family of partitions."""
        if family is schema.CALLS:
            return self.calls
        return self.hourly if family in {level.hourly for level in schema.LEVELS} else self.daily


async def sweep(expire: Callable[[Keep], Awaitable[object]], keep: Keep) -> None:
    """Drops what is over, now and then, for ever."""
    while True:
        await expire(keep)
        await asyncio.sleep(EVERY)


def expire(connection: Connection, keep: Keep, now_us: int) -> list[str]:
    """Drops every partition whose last moment is over for longer than it is kept; their names.

    Args:
        connection: In a transaction that writes.
        keep: For how long.
        now_us: Microseconds since 1970.
    """
    if not on_postgresql(connection):
        # Else Debian's SQLite writes every page of what it drops anew, full of zeros: minutes for a month of calls.
        # https://www.sqlite.org/pragma.html#pragma_secure_delete
        connection.exec_driver_sql("PRAGMA secure_delete = FAST")
    dropped: list[str] = []
    tables = existing(connection)
    for family in schema.FAMILIES:
        days = keep.days(family)
        if days:
            dropped += _expire(connection, family, tables, (now_us - days * DAY_US) // family.unit)
    if dropped:
        _log.info("partitions dropped", partitions=sorted(dropped))
        _forget_names(connection, tables - set(dropped))
    return dropped


def _expire(connection: Connection, family: Family, tables: set[str], until: int) -> list[str]:
    over = {name: bounds[1] for name in tables if (bounds := family.bounds(name)) is not None and bounds[1] <= until}
    for name in over:
        connection.execute(text(f"DROP TABLE {name}"))
    if over:
        since = max(over.values())
        insert = insert_for(connection)(schema.horizons).values(family=family.name, since=since)
        newer = {"since": insert.excluded.since}
        where = schema.horizons.c.since < insert.excluded.since
        connection.execute(insert.on_conflict_do_update(index_elements=["family"], set_=newer, where=where))
        if family is schema.CALLS:
            adjusting.forget(connection, since)
    return list(over)


def _forget_names(connection: Connection, tables: set[str]) -> None:
    """Deletes the texts of which no partition is left that could name them."""
    firsts = [
        bounds[0] * family.unit // DAY_US
        for family in schema.FAMILIES
        for name in tables
        if (bounds := family.bounds(name)) is not None
    ]
    if firsts:
        delete_unused(connection, min(firsts))
