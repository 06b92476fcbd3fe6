"""Call records as rows of the table: the record itself, and beside it the columns that queries look at."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from polyroute.api.metrics.v1.metrics_pb2 import CallRecord

DAY_US: Final = 86_400_000_000
LAST_SECOND: Final = 253_402_300_799  # the end of the year 9999, where google.protobuf.Timestamp ends

# Column -> where its value stands in a CallRecord.
_PATHS: Final[Mapping[str, str]] = {
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
"""The columns of a row, in its order; the first is the record's key."""

_VALUES: Final = attrgetter(*_PATHS.values())

Row = tuple[Any, ...]


def storable(record: CallRecord) -> bool:
    """Whether the record began in a year that a row can hold, 1970 to 9999."""
    return 0 <= record.start_time.seconds <= LAST_SECOND


def microseconds(moment: Timestamp) -> int:
    """A moment as the table has it; what lies outside 1970 to 9999 becomes the nearest end of it."""
    return min(max(moment.seconds, 0), LAST_SECOND) * 1_000_000 + moment.nanos // 1000


def row_of(record: CallRecord) -> Row:
    """The record in the order of `COLUMNS`."""
    start = microseconds(record.start_time)
    cost = record.cost_nanos if record.HasField("cost_nanos") else None
    return (*_VALUES(record), start, start // DAY_US, cost, record.SerializeToString())
