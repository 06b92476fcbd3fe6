"""Tables in partitions of a month, so that old rows leave by dropping a table.

SQLite gets one table per partition. PostgreSQL gets native range partitions of a parent table
(https://www.postgresql.org/docs/current/ddl-partitioning.html). Both are read and written by the partition's own name.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Column, Connection, Index, MetaData, Table, text
from sqlalchemy.exc import DBAPIError

from polyroute.mesh.database import on_postgresql

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 86_400_000_000
_EPOCH: Final = date(1970, 1, 1).toordinal()
_LAST_YEAR: Final = 9999
_UNDEFINED_TABLE: Final = "42P01"  # https://www.postgresql.org/docs/current/errcodes-appendix.html


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """A table in partitions.

    Attributes:
        name: Of the table; partitions add their month to it.
        column: What it is partitioned by: a count of `unit` since 1970.
        unit: Microseconds.
        columns: Makes the columns and indexes of one partition.
        naming: How constraints and indexes are named.
    """

    name: str
    column: str
    unit: int
    columns: Callable[[], list[Column[Any] | Index]]
    naming: Mapping[str, Any]

    def partition(self, day: int) -> str:
        """Name of the partition that a day lies in; days count from 1970."""
        year, month = _month(day)
        return f"{self.name}_{year:04}_{month:02}"

    def bounds(self, partition: str) -> tuple[int, int] | None:
        """First value and first value beyond of a partition, None when the name is not one of this family."""
        return _bounds(self.name, DAY_US // self.unit, partition)

    def table(self, partition: str) -> Table:
        """A partition as statements see it."""
        return _table(self, partition)

    def parent(self) -> Table:
        """What PostgreSQL's partitions are partitions of."""
        metadata = MetaData(naming_convention=dict(self.naming))
        return Table(self.name, metadata, *self.columns(), postgresql_partition_by=f"RANGE ({self.column})")

    def create(self, connection: Connection, partition: str) -> None:
        """Makes a partition, unless it is there."""
        if not on_postgresql(connection):
            self.table(partition).create(connection, checkfirst=True)
            return
        bounds = self.bounds(partition)
        assert bounds is not None  # noqa: S101 - the name came from `partition`
        connection.execute(
            text(
                f"CREATE TABLE IF NOT EXISTS {partition} PARTITION OF {self.name} "
                f"FOR VALUES FROM ({bounds[0]}) TO ({bounds[1]})"
            )
        )


def create_parents(connection: Connection, families: tuple[Family, ...]) -> None:
    """Makes what PostgreSQL's partitions belong to; SQLite's stand alone."""
    if on_postgresql(connection):
        for family in families:
            family.parent().create(connection, checkfirst=True)


def existing(connection: Connection) -> set[str]:
    """Names of all tables."""
    return set(connection.exec_driver_sql(_listing(connection)).scalars())


def is_missing_table(error: DBAPIError) -> bool:
    """Whether a statement failed because a table that it names is not there."""
    return getattr(error.orig, "sqlstate", "") == _UNDEFINED_TABLE or str(error.orig).startswith("no such table")


def _listing(connection: Connection) -> str:
    if on_postgresql(connection):
        return "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = current_schema()"
    return "SELECT name FROM sqlite_master WHERE type = 'table'"


def _first_day(year: int, month: int) -> int:
    """The first day of a month, counted from 1970."""
    if year > _LAST_YEAR:  # the first day that `date` cannot name
        return date.max.toordinal() + 1 - _EPOCH
    return date(year, month, 1).toordinal() - _EPOCH


@lru_cache(maxsize=4096)
def _month(day: int) -> tuple[int, int]:
    moment = date.fromordinal(day + _EPOCH)
    return moment.year, moment.month


@lru_cache(maxsize=4096)
def _bounds(name: str, per_day: int, partition: str) -> tuple[int, int] | None:
    found = re.fullmatch(re.escape(name) + r"_(\d{4})_(\d\d)", partition)
    if found is None:
        return None
    year, month = int(found[1]), int(found[2])
    following = _first_day(year + month // 12, month % 12 + 1)
    return _first_day(year, month) * per_day, following * per_day


@lru_cache(maxsize=4096)
def _table(family: Family, partition: str) -> Table:
    # a MetaData of its own: thousands of partitions in one would never be let go
    metadata = MetaData(naming_convention=dict(family.naming))
    return Table(partition, metadata, *family.columns(), sqlite_with_rowid=False)
