"""Calls one by one: the rows of a filter, newest first, and the records that rows stand for."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, or_, select

from polyroute.api.metrics.v1.metrics_pb2 import CallRecord
from polyroute.metrics import schema
from polyroute.metrics.partitions import existing
from polyroute.metrics.rows import record_of, stored_id
from polyroute.metrics.usage import Filter

FEW: Final = 64  # facets; calls of so few are read one facet after the other, those of more in the order of time
_CHUNK: Final = 500  # parameters of one statement

Place = tuple[int, bytes]
"""Where a page ended: start in microseconds, and the id as it is stored."""


def newest(
    connection: Connection, wanted: Filter, *, limit: int, after: Place | None = None
) -> tuple[list[CallRecord], Place | None]:
    """At most `limit` calls, newest first, and the place to go on from; None on the last page.

    `after` is the place that the page before gave.
    """
    found: list[Any] = []
    facets = _facets(connection, wanted)
    for partition in _newest_first(existing(connection), wanted, after):
        found += _page(connection, partition, wanted, facets, after, limit + 1 - len(found))
        if len(found) > limit:
            break
    page = found[:limit]
    place = (page[-1].start_us, bytes(page[-1].request_id)) if len(found) > limit else None
    return records_of(connection, page), place


def _newest_first(tables: Iterable[str], wanted: Filter, after: Place | None) -> list[str]:
    """The partitions of calls in which a list may find something."""
    found = []
    for name in tables:
        bounds = schema.CALLS.bounds(name)
        if (
            bounds is not None
            and (wanted.start_us is None or wanted.start_us < bounds[1])
            and (wanted.end_us is None or bounds[0] < wanted.end_us)
            and (after is None or bounds[0] <= after[0])
        ):
            found.append(name)
    return sorted(found, reverse=True)


def _facets(connection: Connection, wanted: Filter) -> list[int] | None:
    """The facets of a filter when they are few; None when they are many, or it does not ask for any."""
    conditions = wanted.of_facets()
    if not conditions:
        return None
    rows = connection.execute(select(schema.facets.c.id).where(*conditions).limit(FEW + 1))
    numbers = list(rows.scalars())
    return numbers if len(numbers) <= FEW else None


def _page(
    connection: Connection,
    partition: str,
    wanted: Filter,
    facets: Sequence[int] | None,
    after: Place | None,
    limit: int,
) -> Sequence[Any]:
    """The newest rows of one partition."""
    table = schema.CALLS.table(partition).c
    query = select(*table).order_by(table.start_us.desc(), table.request_id.desc()).limit(limit)
    query = query.where(*_conditions(table, wanted, after))
    if facets is None:
        if conditions := wanted.of_facets():
            query = query.where(table.facet == schema.facets.c.id, *conditions)
        return (connection.execute(query)).all()
    found: list[Any] = []
    for facet in facets:  # each by its index, which has them in this order
        found += (connection.execute(query.where(table.facet == facet))).all()
    return sorted(found, key=lambda row: (row.start_us, bytes(row.request_id)), reverse=True)[:limit]


def _conditions(table: Any, wanted: Filter, after: Place | None) -> list[Any]:
    found = []
    if wanted.start_us is not None:
        found.append(table.start_us >= wanted.start_us)
    if wanted.end_us is not None:
        found.append(table.start_us < wanted.end_us)
    if wanted.request_id:
        found.append(table.request_id == stored_id(wanted.request_id))
    if wanted.fault:
        found.append(table.faults.bitwise_and(1 << wanted.fault) != 0)
    if after is not None:
        start, name = after
        # the first condition says nothing new, but it lets the index begin at the place
        found.append(table.start_us <= start)
        found.append(or_(table.start_us < start, and_(table.start_us == start, table.request_id < name)))
    return found


def records_of(connection: Connection, rows: Sequence[Any]) -> list[CallRecord]:
    """The records that rows stand for."""
    facet, shape = schema.facets.c, schema.shapes.c
    marks = [facet[name] for name in schema.MARKS]
    facets = _numbered(connection, select(facet.id, *marks), facet.id, {row.facet for row in rows})
    shapes = _numbered(connection, select(shape.id, shape.record), shape.id, {row.shape for row in rows})
    texts = texts_of(connection, {number for row in facets for number in row[1:]})
    said: dict[int, Any] = {row.id: tuple(texts[number] for number in row[1:]) for row in facets}
    shared = {row.id: bytes(row.record) for row in shapes}
    return [record_of(bytes(row.request_id), shared[row.shape], said[row.facet], bytes(row.rest)) for row in rows]


def texts_of(connection: Connection, numbers: Collection[int]) -> dict[int, str]:
    """The texts that some numbers stand for, and the empty one."""
    rows = _numbered(connection, select(schema.strings.c.id, schema.strings.c.text), schema.strings.c.id, numbers)
    return {0: ""} | {row.id: row.text for row in rows}


def _numbered(connection: Connection, query: Select[Any], column: Any, numbers: Collection[int]) -> list[Any]:
    """The rows of a query whose column is one of some numbers."""
    wanted = sorted(numbers)
    found: list[Any] = []
    for start in range(0, len(wanted), _CHUNK):
        found += (connection.execute(query.where(column.in_(wanted[start : start + _CHUNK])))).all()
    return found
