"""The calls on disk: every statement that touches their table.

One connection writes, others read; in WAL mode neither waits for the other.
"""

from collections.abc import AsyncGenerator, Collection, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, Self

import structlog
from sqlalchemy import ColumnElement, and_, case, func, or_, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.mesh.errors import MeshError
from polyroute.mesh.sqlite import open_engine
from polyroute.metrics import schema
from polyroute.metrics.rows import COLUMNS, Row

MAX_SUMS: Final = 50_000  # rows of one usage query: what fits into a message
_READERS: Final = 2

_C: Final = schema.calls.c
# Written here and not by SQLAlchemy, whose way of binding a row by name costs more than SQLite's of storing it.
_INSERT: Final = "INSERT INTO calls ({}) VALUES ({}) ON CONFLICT (request_id) DO NOTHING".format(  # noqa: S608 - our names
    ", ".join(f'"{name}"' for name in COLUMNS), ", ".join("?" for _ in COLUMNS)
)

_log = structlog.get_logger("metrics")


class Dimension(Enum):
    """What usage is added up by; the value is the column."""

    DAY = "day"
    PROJECT = "project_id"
    KEY = "key_id"
    MODEL = "model"
    DEPLOYMENT = "deployment"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which calls. Microseconds since 1970; empty texts and None let everything through."""

    start_us: int | None = None
    end_us: int | None = None
    """First moment that is not included."""
    project_id: str = ""
    key_id: str = ""
    model: str = ""
    request_id: str = ""

    def conditions(self) -> list[ColumnElement[bool]]:
        """The filter in SQL."""
        texts = (
            (_C.project_id, self.project_id),
            (_C.key_id, self.key_id),
            (_C.model, self.model),
            (_C.request_id, self.request_id),
        )
        found: list[ColumnElement[bool]] = [column == text for column, text in texts if text]
        if self.start_us is not None:
            found.append(_C.start_us >= self.start_us)
        if self.end_us is not None:
            found.append(_C.start_us < self.end_us)
        return found


@dataclass(frozen=True, slots=True)
class Sums:
    """Calls added up."""

    values: tuple[str | int, ...]
    """Of the dimensions asked for, in that order; a day counts from 1970-01-01."""
    calls: int
    failed_calls: int
    unpriced_calls: int
    cost_nanos: int
    usage: Usage
    """`estimated` when that of at least one call was."""


_UNITS: Final = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "images",
    "audio_ms",
)
_FAILED: Final = case((_C.outcome != metrics_pb2.OUTCOME_COMPLETED, 1), else_=0)
_SUMS: Final = (
    func.count().label("calls"),
    func.coalesce(func.sum(_FAILED), 0).label("failed_calls"),
    (func.count() - func.count(_C.cost_nanos)).label("unpriced_calls"),
    func.coalesce(func.sum(_C.cost_nanos), 0).label("cost_nanos"),
    func.coalesce(func.max(_C.estimated), False).label("estimated"),
    *(func.coalesce(func.sum(_C[name]), 0).label(name) for name in _UNITS),
)

Place = tuple[int, int]
"""Where a page ended: start in microseconds, and `id`."""


class Store:
    """The calls.

    Every method raises `MeshError` with REASON_USAGE_UNAVAILABLE when the database does not do its part.
    """

    def __init__(self, writer: AsyncEngine, readers: AsyncEngine) -> None:
        self._writer = writer
        self._readers = readers

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncGenerator[Self]:
        """The store in the file `path`, created when missing and readable by its owner only."""
        _create(path)
        writer = open_engine(path, pool_size=1, pool_reset_on_return=None)  # every use of it ends its own transaction
        readers = open_engine(path, pool_size=_READERS, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True)
        try:
            async with writer.begin() as connection:
                await connection.run_sync(schema.metadata.create_all)
            yield cls(writer, readers)
        finally:
            await readers.dispose()
            await writer.dispose()

    async def insert(self, rows: Sequence[Row]) -> Collection[str]:
        """Stores rows of `COLUMNS` in one transaction; the keys of those that were new, on disk when this returns."""
        with _answering():
            async with self._writer.begin() as connection:
                inserted = (await connection.exec_driver_sql(_INSERT, list(rows))).rowcount
                if inserted == len(rows):
                    return [row[0] for row in rows]
                # ids grow with every row and nobody else writes in between: the highest are the new ones
                newest = select(_C.request_id).order_by(_C.id.desc()).limit(inserted)
                return (await connection.execute(newest)).scalars().all()

    async def usage(self, wanted: Filter, group_by: Sequence[Dimension]) -> list[Sums]:
        """Calls added up, one row per combination of the dimensions, ordered by them; one row in all without any.

        Raises:
            MeshError: Also REASON_TOO_LARGE when there are more than `MAX_SUMS` combinations.
        """
        dimensions = [_C[dimension.value] for dimension in group_by]
        labelled = [column.label(f"dimension_{index}") for index, column in enumerate(dimensions)]
        query = select(*labelled, *_SUMS).where(*wanted.conditions())
        query = query.group_by(*dimensions).order_by(*dimensions).limit(MAX_SUMS + 1)
        with _answering():
            async with self._readers.connect() as connection:
                rows = (await connection.execute(query)).mappings().all()
        if len(rows) > MAX_SUMS:
            raise MeshError(
                errors_pb2.REASON_TOO_LARGE,
                "too many rows: ask for a shorter time or fewer dimensions",
                metadata={"limit": str(MAX_SUMS)},
            )
        return [_sums(row, len(group_by)) for row in rows]

    async def calls(
        self, wanted: Filter, *, limit: int, after: Place | None = None
    ) -> tuple[list[metrics_pb2.CallRecord], Place | None]:
        """At most `limit` calls, newest first, and the place to go on from; None on the last page.

        `after` is the place that the page before gave.
        """
        query = select(_C.id, _C.start_us, _C.record).where(*wanted.conditions())
        if after is not None:
            start, number = after
            # the first condition says nothing new, but it lets the index begin at the place
            query = query.where(
                _C.start_us <= start, or_(_C.start_us < start, and_(_C.start_us == start, _C.id < number))
            )
        query = query.order_by(_C.start_us.desc(), _C.id.desc()).limit(limit + 1)
        with _answering():
            async with self._readers.connect() as connection:
                rows = (await connection.execute(query)).all()
        page = rows[:limit]
        place = (page[-1].start_us, page[-1].id) if len(rows) > limit else None
        return [metrics_pb2.CallRecord.FromString(row.record) for row in page], place


def _sums(row: Any, dimensions: int) -> Sums:
    return Sums(
        values=tuple(row[f"dimension_{index}"] for index in range(dimensions)),
        calls=row["calls"],
        failed_calls=row["failed_calls"],
        unpriced_calls=row["unpriced_calls"],
        cost_nanos=row["cost_nanos"],
        usage=Usage(
            input_tokens=row["input_tokens"],
            cache_read_tokens=row["cache_read_tokens"],
            cache_write_tokens=row["cache_write_tokens"],
            output_tokens=row["output_tokens"],
            reasoning_tokens=row["reasoning_tokens"],
            images=row["images"],
            audio_milliseconds=row["audio_ms"],
            estimated=row["estimated"],
        ),
    )


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)  # SQLite gives its -wal and -shm files the same mode


@contextmanager
def _answering() -> Generator[None]:
    """Turns a database that does not do its part into the refusal that callers may repeat."""
    try:
        yield
    except (DBAPIError, PoolTimeoutError) as error:
        _log.error("metrics database failed", error=str(error))
        raise MeshError(
            errors_pb2.REASON_USAGE_UNAVAILABLE, "the database of calls does not answer", retry_after=1.0
        ) from error
