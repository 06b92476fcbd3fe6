"""The tables of metrics: times in microseconds, hours and days since the Unix epoch in UTC, money in nano-USD.

Whatever stands in many calls is written down once and named by a number: `strings` holds texts, `facets` the
combinations of who called what (every dimension that usage can be added up by), `shapes` what else calls have in
common. A call itself is then a narrow row, and a sum is a row of numbers.

Calls and sums lie in partitions, tables of a month each (see `partitions`), which are dropped when their time
is over.
"""

from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table

from polyroute.mesh.database import Serial
from polyroute.metrics.partitions import DAY_US, HOUR_US, Family

metadata: Final = MetaData(
    naming_convention={  # names that a migration can rely on
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

TEXTS: Final = ("account", "project", "key", "model", "deployment", "provider")
"""Columns of a facet that are texts, in every facet."""
MARKS: Final = ("end_user", "workflow", "node", "tagset")
"""Columns of a facet that callers fill in; all empty in a core facet."""
LABELS: Final = ("account", "project", "key", "workflow", "node", "tagset")
"""Columns of a facet that are kept in its label facet: whom a call was for, without what served it and its end user."""

SUMS: Final = (
    "calls",
    "failed",
    "unpriced",
    "estimated",
    "cost_nanos",
    "charged_nanos",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "images",
    "audio_ms",
)
"""What is added up, in the order of rows: four counts of calls, two of nano-USD, and the units of `Usage`."""
MONEY: Final = ("cost_nanos", "charged_nanos")
"""Of these what may be unknown of a call: its cost, and its charge, which is the cost where the row does not say it."""


def _numbered(name: str, *columns: Column[Any]) -> Table:
    """A table that names each of its rows by a number, found by a digest: indexes of texts would have to bound them."""
    return Table(
        name,
        metadata,
        Column("id", Serial, primary_key=True),
        Column("digest", LargeBinary(16), nullable=False, unique=True),
        Column(
            "used_day", Integer, nullable=False
        ),  # when it was last looked up; what nobody names any more is deleted
        *columns,
    )


strings: Final = _numbered("strings", Column("text", String, nullable=False))  # 0, without a row, is the empty text
facets: Final = _numbered(
    "facets",
    *(Column(name, BigInteger, nullable=False) for name in (*TEXTS, *MARKS)),  # of strings
    Column("operation", Integer, nullable=False),
    Column("core", BigInteger, nullable=False),  # the facet without marks; 0 when it is this one
)
shapes: Final = _numbered("shapes", Column("record", LargeBinary, nullable=False))  # a CallRecord
# One row per tag of a tagset; a tagset is the string of all tags of a call, as JSON.
tags: Final = Table(
    "tags",
    metadata,
    Column("tagset", BigInteger, primary_key=True, autoincrement=False),
    Column("name", BigInteger, primary_key=True, autoincrement=False),
    Column("value", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
# From where on a family of partitions is whole, in the unit of its column: what came before was dropped.
horizons: Final = Table(
    "horizons",
    metadata,
    Column("family", String(16), primary_key=True),
    Column("since", BigInteger, nullable=False),
)
# What the ledger charges attempts otherwise than their records say, of calls that are kept; see `adjusting`.
adjustments: Final = Table(
    "adjustments",
    metadata,
    Column("request_id", LargeBinary, primary_key=True),  # as calls have it
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("start_us", BigInteger, nullable=False, index=True),  # of the call
    Column("said", LargeBinary, nullable=False),  # an Adjustment
)
# How far what is followed was read.
cursors: Final = Table(
    "cursors",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
)


def _call_columns() -> list[Column[Any] | Index]:
    return [
        Column("request_id", LargeBinary, primary_key=True),  # a UUID's 16 bytes, or 255 and a text
        Column("start_us", BigInteger, primary_key=True, autoincrement=False),
        Column("facet", BigInteger, nullable=False),
        Column("shape", BigInteger, nullable=False),
        Column("faults", Integer, nullable=False),  # of all attempts: one bit for each fault, by its number
        *(Column(name, BigInteger, nullable=name in MONEY) for name in SUMS[1:]),
        Column("rest", LargeBinary, nullable=False),  # a CallRecord without what the row says in other ways
        Index(None, "start_us", "request_id"),
        Index(None, "facet", "start_us", "request_id"),
    ]


def _hour_columns() -> list[Column[Any] | Index]:
    return [_bucket("hour"), _facet(), *_sums()]  # what is being added to lies together


def _day_columns() -> list[Column[Any] | Index]:
    return [_facet(), _bucket("day"), *_sums()]  # a facet's days lie together, and are added up without sorting


def _bucket(name: str) -> Column[Any]:
    return Column(name, Integer, primary_key=True, autoincrement=False)


def _facet() -> Column[Any]:
    return Column("facet", BigInteger, primary_key=True, autoincrement=False)


def _sums() -> list[Column[Any]]:
    return [Column(name, BigInteger, nullable=False) for name in SUMS]


CALLS: Final = Family("calls", "start_us", 1, _call_columns, metadata.naming_convention)
HOURLY: Final = Family("hourly", "hour", HOUR_US, _hour_columns, metadata.naming_convention)
DAILY: Final = Family("daily", "day", DAY_US, _day_columns, metadata.naming_convention)
HOURLY_CORE: Final = Family("hourly_core", "hour", HOUR_US, _hour_columns, metadata.naming_convention)
DAILY_CORE: Final = Family("daily_core", "day", DAY_US, _day_columns, metadata.naming_convention)
HOURLY_LABEL: Final = Family("hourly_label", "hour", HOUR_US, _hour_columns, metadata.naming_convention)
DAILY_LABEL: Final = Family("daily_label", "day", DAY_US, _day_columns, metadata.naming_convention)
FAMILIES: Final = (CALLS, HOURLY, HOURLY_CORE, HOURLY_LABEL, DAILY, DAILY_CORE, DAILY_LABEL)
"""Each table that is kept in partitions."""


class Level(NamedTuple):
    """Sums of one kind of facets.

    Attributes:
        columns: Of the facets; the others are empty.
        hourly: The sums of an hour.
        daily: The sums of a day.
    """

    columns: frozenset[str]
    hourly: Family
    daily: Family


CORE: Final = Level(frozenset({*TEXTS, "operation"}), HOURLY_CORE, DAILY_CORE)
LABEL: Final = Level(frozenset(LABELS), HOURLY_LABEL, DAILY_LABEL)
FULL: Final = Level(frozenset({*TEXTS, *MARKS, "operation"}), HOURLY, DAILY)
LEVELS: Final = (CORE, LABEL, FULL)
"""All of them; a question is answered by the first that has what it asks for, which has the fewest facets."""
