"""Usage as a question to the sums: which tables hold the answer, and the statement that asks them.

A span of time is cut where hours and days begin: whole days come from daily sums, whole hours beside them from hourly
ones, and what is left at both ends from the calls. The pieces do not overlap and leave no gap, so that the answer is
the sum of the calls to the last unit, whatever the span is. Where something finer has been dropped, the span is widened
to the hour or the day, and where nothing older is kept it begins later; the answer says so.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, FromClause, Select, and_, func, literal, select, union_all

from polyroute.metrics import schema
from polyroute.metrics.dictionary import string_digest
from polyroute.metrics.partitions import DAY_US, HOUR_US, Family

MAX_SUMS: Final = 50_000  # rows of one usage query: what fits into a message
PER_DAY: Final = 24
_F: Final = schema.facets.c


class Dimension(Enum):
    """What usage is added up by; the value is the column of the facet, if it is one."""

    DAY = "day"
    HOUR = "hour"
    ACCOUNT = "account"
    PROJECT = "project"
    KEY = "key"
    MODEL = "model"
    DEPLOYMENT = "deployment"
    PROVIDER = "provider"
    OPERATION = "operation"
    USER = "end_user"
    WORKFLOW = "workflow"
    NODE = "node"
    TAG = "tag"


_TIMES: Final = frozenset({Dimension.DAY, Dimension.HOUR})


class By(NamedTuple):
    """A dimension, and the name of the tag where it is one."""

    dimension: Dimension
    tag: str = ""

    @property
    def textual(self) -> bool:
        """Whether its values are numbers of strings."""
        return self.dimension not in _TIMES and self.dimension is not Dimension.OPERATION

    @property
    def columns(self) -> frozenset[str]:
        """What a facet must have for it."""
        if self.dimension in _TIMES:
            return frozenset()
        return frozenset({"tagset" if self.dimension is Dimension.TAG else self.dimension.value})


@dataclass(frozen=True, slots=True)
class Filter:
    """Which calls. Microseconds since 1970; what is empty or None lets everything through.

    Attributes:
        start_us: First moment.
        end_us: First moment that is not included.
        texts: Column of a facet -> the value it must have.
        tags: Tags that the call must have.
        operation: Kind of work; 0 for all.
        fault: Number of a fault that an attempt must have had; 0 for all. Not for sums.
        request_id: The call. Not for sums.
    """

    start_us: int | None = None
    end_us: int | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    operation: int = 0
    fault: int = 0
    request_id: str = ""

    @property
    def columns(self) -> frozenset[str]:
        """What a facet must have for it."""
        found = {name for name, text in self.texts.items() if text}
        return frozenset(found | ({"operation"} if self.operation else set()) | ({"tagset"} if self.tags else set()))

    def of_facets(self) -> list[ColumnElement[bool]]:
        """What it asks of a call's facet."""
        found: list[ColumnElement[bool]] = [
            _F[column] == string_number(text) for column, text in self.texts.items() if text
        ]
        if self.operation:
            found.append(_F.operation == self.operation)
        for name, value in self.tags.items():
            tag = schema.tags.alias()
            same = (tag.c.name == string_number(name), tag.c.value == string_number(value))
            found.append(select(literal(1)).where(tag.c.tagset == _F.tagset, *same).exists())
        return found


class Piece(NamedTuple):
    """A part of a span: values `start` <= column < `end` of a family; None is without end."""

    family: Family
    start: int
    end: int | None


class Cut(NamedTuple):
    """A span in pieces, and what it became: microseconds, None where it has no bound."""

    pieces: list[Piece]
    start_us: int | None
    end_us: int | None


def cut(wanted: Filter, horizons: Mapping[str, int], *, level: schema.Level, hours: bool) -> Cut:
    """The pieces of the span that a filter asks for.

    Args:
        wanted: The filter.
        horizons: Family -> first value that is kept, where something was dropped.
        level: The sums that will do.
        hours: Each hour is wanted by itself, so that daily sums will not do.
    """
    hourly, daily = level.hourly, level.daily
    calls_since = horizons.get(schema.CALLS.name, 0)
    hours_since = horizons.get(hourly.name, 0)
    since = hours_since * HOUR_US if hours else horizons.get(daily.name, 0) * DAY_US
    start, end = _earlier(max(wanted.start_us or 0, since), calls_since, hours_since * HOUR_US), wanted.end_us
    if end is not None:
        end = max(start, _later(end, calls_since, hours_since * HOUR_US))
    bounded = wanted.start_us is not None or since > 0
    return Cut(list(_pieces(start, end, hourly, None if hours else daily)), start if bounded else None, end)


def _earlier(moment: int, calls_since: int, hours_since: int) -> int:
    """The moment, or the one before it from which on there are calls or sums to begin with. Microseconds."""
    if moment < calls_since:
        moment -= moment % HOUR_US
    return moment - moment % DAY_US if moment < hours_since else moment


def _later(moment: int, calls_since: int, hours_since: int) -> int:
    """The moment, or the one after it at which calls or sums can end. Microseconds."""
    if moment < calls_since:
        moment += -moment % HOUR_US
    return moment + -moment % DAY_US if moment < hours_since else moment


def _pieces(start: int, end: int | None, hourly: Family, daily: Family | None) -> Iterator[Piece]:
    first, last = -(-start // HOUR_US), None if end is None else end // HOUR_US
    if end is not None and last is not None:
        if last < first:  # both within one hour
            yield Piece(schema.CALLS, start, end)
            return
        if last * HOUR_US < end:
            yield Piece(schema.CALLS, last * HOUR_US, end)
    if start < first * HOUR_US:
        yield Piece(schema.CALLS, start, first * HOUR_US)
    first_day, last_day = -(-first // PER_DAY), None if last is None else last // PER_DAY
    if daily is None or (last_day is not None and last_day < first_day):
        yield Piece(hourly, first, last)
        return
    yield Piece(hourly, first, first_day * PER_DAY)
    yield Piece(daily, first_day, last_day)
    if last is not None and last_day is not None:
        yield Piece(hourly, last_day * PER_DAY, last)


def grouped(by: Sequence[By], wanted: Filter) -> tuple[schema.Level, bool]:
    """The sums that answer a question, and whether it wants each hour by itself."""
    needed = wanted.columns.union(*(one.columns for one in by))
    level = next(level for level in schema.LEVELS if needed <= level.columns)
    return level, any(one.dimension is Dimension.HOUR for one in by)


def question(wanted: Filter, by: Sequence[By], pieces: Sequence[Piece], tables: Collection[str]) -> Select[Any] | None:
    """The statement that adds up: the number of each dimension's value, and `schema.SUMS`; None when nothing is there.

    Args:
        wanted: Which calls; its span is in `pieces`.
        by: What to add up by.
        pieces: Where to look.
        tables: Names of the tables that exist.
    """
    times = [one.dimension for one in by if one.dimension in _TIMES]
    parts = [part for piece in pieces for part in _parts(piece, times, tables)]
    if not parts:
        return None
    found = union_all(*parts).subquery()
    source: FromClause = found.join(schema.facets, _F.id == found.c.facet)
    columns: list[ColumnElement[Any]] = []
    for one in by:
        if one.dimension is Dimension.TAG:
            tag = schema.tags.alias()
            source = source.outerjoin(tag, and_(tag.c.tagset == _F.tagset, tag.c.name == string_number(one.tag)))
            columns.append(func.coalesce(tag.c.value, 0))
        else:
            columns.append((found if one.dimension in _TIMES else schema.facets).c[one.dimension.value])
    labelled = [column.label(f"dimension_{index}") for index, column in enumerate(columns)]
    sums = [func.coalesce(func.sum(found.c[name]), 0).label(name) for name in schema.SUMS]
    return (
        select(*labelled, *sums).select_from(source).where(*wanted.of_facets()).group_by(*columns).limit(MAX_SUMS + 1)
    )


def _parts(piece: Piece, times: Sequence[Dimension], tables: Collection[str]) -> Iterator[Select[Any]]:
    """A piece's rows, one statement for each partition."""
    for name in sorted(tables):
        bounds = piece.family.bounds(name)
        if bounds is None or bounds[1] <= piece.start or (piece.end is not None and piece.end <= bounds[0]):
            continue
        table = piece.family.table(name).c
        column = table[piece.family.column]
        conditions = [column >= piece.start] + ([] if piece.end is None else [column < piece.end])
        buckets = [_bucket(column, piece.family, time).label(time.value) for time in times]
        if piece.family is not schema.CALLS and not times:  # far fewer rows for the steps that follow
            sums = [func.sum(table[name]).label(name) for name in schema.SUMS]
            yield select(table.facet, *sums).where(*conditions).group_by(table.facet)
        else:
            yield select(table.facet, *buckets, *_sums(table, piece.family)).where(*conditions)


def _bucket(column: ColumnElement[int], family: Family, time: Dimension) -> ColumnElement[int]:
    """The day or hour that a row lies in."""
    length = (HOUR_US if time is Dimension.HOUR else DAY_US) // family.unit
    return column if length == 1 else column // length


def _sums(table: Any, family: Family) -> list[ColumnElement[Any]]:
    if family is not schema.CALLS:
        return [table[name] for name in schema.SUMS]
    first = literal(1, BigInteger, literal_execute=True).label("calls")
    return [first, *(func.coalesce(*_known(table, name), 0).label(name) for name in schema.SUMS[1:])]


def _known(table: Any, name: str) -> list[ColumnElement[int]]:
    """A column of calls, and what says it where that is empty."""
    return [table[name], table["cost_nanos"]] if name == "charged_nanos" else [table[name]]


def string_number(text: str) -> ColumnElement[int]:
    """The number of a text, which no row has when it was never stored."""
    return select(schema.strings.c.id).where(schema.strings.c.digest == string_digest(text)).scalar_subquery()
