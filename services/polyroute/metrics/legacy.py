"""The table of version 0.1, in which every call was one wide row: its calls are brought into today's form, and back."""

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

import structlog
from sqlalchemy import Connection, inspect, select, text

from polyroute.api.metrics.v1.metrics_pb2 import CallRecord
from polyroute.mesh.database import driver_sql
from polyroute.metrics import schema
from polyroute.metrics.listing import records_of
from polyroute.metrics.partitions import DAY_US, existing
from polyroute.metrics.rows import Row, microseconds, row_of

TABLE: Final = "calls_v1"  # where a migration puts the old table
STEP: Final = 2000  # calls in one transaction: wherever it is interrupted, it goes on from there

# Column of the old table -> where its value stands in a CallRecord.
_PATHS: Final = {
    "request_id": "request_id",
    "account_id": "caller.account_id",
    "project_id": "caller.project_id",
    "key_id": "caller.key_id",
    "operation": "operation",
    "requested_model": "requested_model",
    "model": "model",
    "deployment": "deployment",
    "provider": "provider",
    "stream": "stream",
    "outcome": "outcome",
    "reason": "reason",
    "http_status": "http_status",
    "input_tokens": "usage.input_tokens",
    "cache_read_tokens": "usage.cache_read_tokens",
    "cache_write_tokens": "usage.cache_write_tokens",
    "output_tokens": "usage.output_tokens",
    "reasoning_tokens": "usage.reasoning_tokens",
    "images": "usage.images",
    "audio_ms": "usage.audio_milliseconds",
    "estimated": "usage.estimated",
    "total_us": "total_microseconds",
    "first_token_us": "first_token_microseconds",
    "overhead_us": "overhead_microseconds",
    "user": "user",
}
COLUMNS: Final = (*_PATHS, "start_us", "day", "cost_nanos", "record")
_values: Final = attrgetter(*_PATHS.values())

_log = structlog.get_logger("metrics")


def adopt(connection: Connection, store: Callable[[Sequence[Row]], object]) -> bool:
    """Moves some calls out of the old table, and drops it when it is empty; whether there may be more.

    Args:
        connection: In a transaction that writes.
        store: Stores rows in the same transaction.
    """
    if not inspect(connection).has_table(TABLE):
        return False
    read = text(f"SELECT id, record FROM {TABLE} ORDER BY id LIMIT :step")  # noqa: S608 - our name
    rows = connection.execute(read, {"step": STEP}).all()
    if not rows:
        connection.execute(text(f"DROP TABLE {TABLE}"))
        _log.info("old calls adopted")
        return False
    store([row_of(CallRecord.FromString(bytes(record))) for _, record in rows])
    connection.execute(text(f"DELETE FROM {TABLE} WHERE id <= :last"), {"last": rows[-1].id})  # noqa: S608 - our name
    _log.info("adopting old calls", done=rows[-1].id)
    return True


def restore(connection: Connection) -> None:
    """Puts all calls that are kept into the old table `calls`, for going back to version 0.1."""
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    insert = f"INSERT INTO calls ({names}) VALUES ({', '.join('?' for _ in COLUMNS)})"  # noqa: S608 - our names
    for records in _all(connection):
        connection.exec_driver_sql(driver_sql(connection, insert), [_wide(record) for record in records])


def _all(connection: Connection) -> Iterator[list[CallRecord]]:
    """All calls, oldest first."""
    for name in sorted(existing(connection)):
        if schema.CALLS.bounds(name) is None:
            continue
        table = schema.CALLS.table(name).c
        stored = (
            table.request_id,
            table.start_us,
            table.facet,
            table.shape,
            table.rest,
        )  # what there is in each version
        rows = connection.execute(select(*stored).order_by(table.start_us, table.request_id)).partitions(STEP)
        for some in rows:
            yield records_of(connection, some)


def _wide(record: CallRecord) -> tuple[Any, ...]:
    start = microseconds(record.start_time)
    cost = record.cost_nanos if record.HasField("cost_nanos") else None
    return (*_values(record), start, start // DAY_US, cost, record.SerializeToString())
