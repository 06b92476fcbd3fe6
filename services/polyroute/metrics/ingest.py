"""Puts calls on disk: rows and sums in one transaction, each call once, however often it comes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import structlog
from sqlalchemy import Connection, delete

from polyroute.mesh.database import driver_sql
from polyroute.mesh.rows import insertions
from polyroute.metrics import schema
from polyroute.metrics.dictionary import Dictionary, Numbers
from polyroute.metrics.partitions import Family, existing
from polyroute.metrics.rows import Row

_CHUNK: Final = 500  # parameters of one statement

# Written here and not by SQLAlchemy, whose way of binding a row by name costs more than SQLite's of storing it.
_CALL: Final = ("request_id", "start_us", "facet", "shape", "faults", *schema.SUMS[1:], "rest")
_COST: Final = schema.SUMS.index("cost_nanos")
_UNITS: Final = _COST + len(schema.MONEY)  # where they begin

Sums = dict[tuple[int, int], list[int]]
"""(hour or day, facet) -> sums in the order of `schema.SUMS`."""

_log = structlog.get_logger("metrics")


class Change(NamedTuple):
    """A call that another row stands for from now on.

    Attributes:
        old: The row until now; None where there is none.
        new: The row.
    """

    old: Row | None
    new: Row


class Ingest:
    """Stores calls. For one thread, and the only writer of its database.

    Args:
        dictionary: Numbers of what rows name.
    """

    def __init__(self, dictionary: Dictionary) -> None:
        self._dictionary = dictionary
        self._partitions: set[str] | None = None

    def forget(self) -> None:
        """Forgets what it knows of the database: a transaction failed, or something was dropped."""
        self._dictionary.forget()
        self._partitions = None

    def store(self, connection: Connection, rows: Sequence[Row], today: int) -> list[Row]:
        """Stores calls and adds them to the sums; the ones that were new.

        Args:
            connection: In a transaction that writes.
            rows: One and the same call may stand among them twice.
            today: Days since 1970.
        """
        once = {row.stored_id: row for row in reversed(rows)}  # of a call that stands there twice the first
        fresh = {
            name: self._unknown(connection, name, some)
            for name, some in _by_partition(schema.CALLS, reversed(once.values())).items()
        }
        for name, some in fresh.items():
            if some:
                numbers = self._dictionary.numbers(connection, some, today)
                _insert(connection, name, some, numbers)
                self._add_up(connection, some, numbers)
        return [row for some in fresh.values() for row in some]

    def replace(self, connection: Connection, changes: Sequence[Change], today: int) -> None:
        """Puts rows in place of others, and into the sums the difference.

        Args:
            connection: In a transaction that writes.
            changes: Each of another call.
            today: Days since 1970.
        """
        olds = [change.old for change in changes if change.old is not None]
        for old in olds:
            table = schema.CALLS.table(schema.CALLS.partition(old.day))
            which = (table.c.request_id == old.stored_id, table.c.start_us == old.start_us)
            connection.execute(delete(table).where(*which))
        for name, some in _by_partition(schema.CALLS, (change.new for change in changes)).items():
            self._ensure(connection, schema.CALLS, name)
            _insert(connection, name, some, self._dictionary.numbers(connection, some, today))
        less = [old._replace(sums=tuple(-amount for amount in old.sums)) for old in olds]
        rows = [*(change.new for change in changes), *less]
        self._add_up(connection, rows, self._dictionary.numbers(connection, rows, today))

    def _unknown(self, connection: Connection, partition: str, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows of one partition that are not in it."""
        self._ensure(connection, schema.CALLS, partition)
        known: set[bytes] = set()
        for start in range(0, len(rows), _CHUNK):
            wanted = tuple(row.stored_id for row in rows[start : start + _CHUNK])
            places = ", ".join("?" for _ in wanted)
            select = f"SELECT request_id FROM {partition} WHERE request_id IN ({places})"  # noqa: S608 - our names
            found = connection.exec_driver_sql(driver_sql(connection, select), wanted)
            known.update(bytes(stored_id) for (stored_id,) in found)
        return [row for row in rows if row.stored_id not in known] if known else rows

    def _add_up(self, connection: Connection, rows: Iterable[Row], numbers: Iterable[Numbers]) -> None:
        hourly: Sums = {}
        cores: dict[int, int] = {}
        labels: dict[int, int] = {}
        for row, number in zip(rows, numbers, strict=True):
            cores[number.facet], labels[number.facet] = number.core, number.label
            _add(hourly, (row.start_us // schema.HOURLY.unit, number.facet), row.sums)
        for level, facets in ((schema.FULL, {}), (schema.CORE, cores), (schema.LABEL, labels)):
            sums = _folded(hourly, facets, 1) if facets else hourly
            self._upsert(connection, level.hourly, sums)
            self._upsert(connection, level.daily, _folded(sums, {}, 24))

    def _upsert(self, connection: Connection, family: Family, sums: Sums) -> None:
        by_partition: dict[str, list[tuple[int, ...]]] = {}
        per_day = schema.DAILY.unit // family.unit
        for (bucket, facet), values in sums.items():
            partition = family.partition(bucket // per_day)
            by_partition.setdefault(partition, []).append((bucket, facet, *values))
        for partition, some in by_partition.items():
            self._ensure(connection, family, partition)
            connection.exec_driver_sql(driver_sql(connection, _addition(partition, family.column)), sorted(some))
            less = [(bucket, facet) for bucket, facet, calls, *_ in some if calls < 0]
            if less:  # a sum of no calls would be a row of every report
                statement = f"DELETE FROM {partition} WHERE {family.column} = ? AND facet = ? AND calls = 0"  # noqa: S608 - our names
                connection.exec_driver_sql(driver_sql(connection, statement), less)

    def _ensure(self, connection: Connection, family: Family, partition: str) -> None:
        if self._partitions is None:
            self._partitions = existing(connection)
        if partition not in self._partitions:
            family.create(connection, partition)
            self._partitions.add(partition)
            _log.info("partition begun", partition=partition)


def _by_partition(family: Family, rows: Iterable[Row]) -> dict[str, list[Row]]:
    by_day: dict[int, list[Row]] = {}
    for row in rows:
        by_day.setdefault(row.day, []).append(row)
    found: dict[str, list[Row]] = {}
    for day, some in by_day.items():
        found.setdefault(family.partition(day), []).extend(some)
    return found


def _insert(connection: Connection, partition: str, rows: Sequence[Row], numbers: Sequence[Numbers]) -> None:
    values = [
        (
            row.stored_id,
            row.start_us,
            number.facet,
            number.shape,
            row.faults,
            *row.sums[1:_COST],
            row.cost_nanos,
            row.charged_nanos,
            *row.sums[_UNITS:],
            row.rest,
        )
        for row, number in zip(rows, numbers, strict=True)
    ]
    places = ", ".join("?" for _ in _CALL)
    for statement, some in insertions(f"INSERT INTO {partition} ({', '.join(_CALL)})", f"({places})", values):
        connection.exec_driver_sql(driver_sql(connection, statement), some)


def _add(sums: Sums, place: tuple[int, int], values: Sequence[int]) -> None:
    before = sums.get(place)
    sums[place] = list(values) if before is None else [one + other for one, other in zip(before, values, strict=True)]


def _folded(sums: Sums, facets: Mapping[int, int], length: int) -> Sums:
    """Sums over `length` buckets each, with facets replaced where `facets` says by what."""
    folded: Sums = {}
    for (bucket, facet), values in sums.items():
        _add(folded, (bucket // length, facets.get(facet, facet)), values)
    return folded


def _addition(partition: str, bucket: str) -> str:
    columns = (bucket, "facet", *schema.SUMS)
    return (
        f"INSERT INTO {partition} ({', '.join(columns)}) VALUES ({', '.join('?' for _ in columns)}) "  # noqa: S608 - our names
        f"ON CONFLICT ({bucket}, facet) DO UPDATE SET "
        + ", ".join(f"{name} = {partition}.{name} + excluded.{name}" for name in schema.SUMS)
    )
