"""Call records as narrow rows and back: what many calls share goes to the dictionaries, the rest stays in the row."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.metrics.v1.metrics_pb2 import OUTCOME_COMPLETED, AttemptRecord, CallRecord
from polyroute.metrics.partitions import DAY_US

LAST_SECOND: Final = 253_402_300_799  # the end of the year 9999, where google.protobuf.Timestamp ends
MOST: Final = 1 << 50  # of any unit, or nano-USD, in one call: thousands of such calls still add up within 64 bits

UNITS: Final = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "images",
    "audio_milliseconds",
)
_units: Final = attrgetter(*UNITS)
_MOST_FAULTS: Final = 30  # bits that the column has room for
_TEXT: Final = 0xFF  # begins a stored id that is no UUID's 16 bytes

# What calls of the same kind share: these fields are kept once for all of them. Short ones stay in the row as well.
_SHAPED: Final = (
    "caller",
    "requested_model",
    "model",
    "deployment",
    "provider",
    "price_version",
    "catalog_version",
    "policy",
    "policy_version",
)
_ELSEWHERE: Final = ("request_id", *_SHAPED, "user", "workflow_id", "node_id", "tags")
_shaped: Final = attrgetter(*_SHAPED[1:])
_facet: Final = attrgetter(
    "caller.account_id",
    "caller.project_id",
    "caller.key_id",
    "model",
    "deployment",
    "provider",
    "user",
    "workflow_id",
    "node_id",
)
_CORE: Final = 6  # texts of a facet that are not the caller's own
_WHO: Final = 3  # texts of a facet that say whose call it is

Facet = tuple[Any, ...]
"""Who called what, in the order of the columns of `schema.facets`: ten texts, the tags the last, and the operation."""
Shape = tuple[Any, ...]
"""Tells apart what `shape_of` makes: equal for calls that share it."""


def core_of(facet: Facet) -> Facet:
    """The facet without what the caller added to its call."""
    return (*facet[:_CORE], "", "", "", "", facet[-1])


def label_of(facet: Facet) -> Facet:
    """The facet without what served the call, and without its end user; see `schema.LABELS`."""
    return (*facet[:_WHO], "", "", "", "", *facet[_CORE + 1 : -1], 0)


class Row(NamedTuple):
    """One call, on its way to the disk."""

    request_id: str
    stored_id: bytes
    start_us: int
    day: int
    """UTC, counted from 1970."""
    facet: Facet
    shape: Shape
    faults: int
    """One bit for each fault that an attempt had."""
    sums: tuple[int, ...]
    """In the order of `schema.SUMS`."""
    cost_nanos: int | None
    charged_nanos: int | None
    rest: bytes
    record: CallRecord


def storable(record: CallRecord) -> bool:
    """Whether a row can hold the record: begun in the years 1970 to 9999, and no amount beyond `MOST`."""
    amounts = (record.cost_nanos, record.charged_nanos, *_units(record.usage))
    return 0 <= record.start_time.seconds <= LAST_SECOND and all(-MOST <= amount <= MOST for amount in amounts)


def microseconds(moment: Timestamp) -> int:
    """A moment as the table has it; what lies outside 1970 to 9999 becomes the nearest end of it."""
    return min(max(moment.seconds, 0), LAST_SECOND) * 1_000_000 + moment.nanos // 1000


def row_of(record: CallRecord) -> Row:
    """The record as a row."""
    usage, tags = record.usage, record.tags
    completed = record.outcome == OUTCOME_COMPLETED
    cost = record.cost_nanos if record.HasField("cost_nanos") else None
    charged = record.charged_nanos if record.HasField("charged_nanos") else cost
    start = microseconds(record.start_time)
    return Row(
        record.request_id,
        stored_id(record.request_id),
        start,
        start // DAY_US,
        (*_facet(record), tagset_of(tags) if tags else "", record.operation),
        (record.caller.SerializeToString(deterministic=True), *_shaped(record)),
        _faults(record.attempts, completed=completed),
        (
            1,
            0 if completed else 1,
            1 if cost is None else 0,
            1 if usage.estimated else 0,
            cost or 0,
            charged or 0,
            *_units(usage),
        ),
        cost,
        charged,
        _rest(record),
        record,
    )


def _faults(attempts: Sequence[AttemptRecord], *, completed: bool) -> int:
    found = 0
    if not completed or len(attempts) > 1:
        for attempt in attempts:
            if 0 < attempt.fault <= _MOST_FAULTS:
                found |= 1 << attempt.fault
    return found


def shape_of(record: CallRecord) -> bytes:
    """What the call shares with others, a CallRecord."""
    shared = CallRecord(caller=record.caller if record.HasField("caller") else None)
    for name in _SHAPED[1:]:
        setattr(shared, name, getattr(record, name))
    return shared.SerializeToString(deterministic=True)


def _rest(record: CallRecord) -> bytes:
    """The record without what is kept elsewhere; fields that only a newer sender knows are in it too."""
    rest = CallRecord()
    rest.CopyFrom(record)
    clear = rest.ClearField
    for name in _ELSEWHERE:
        clear(name)
    if record.HasField("cost_nanos") and record.charged_nanos == record.cost_nanos:
        clear("charged_nanos")  # which is what a record without it says
    return rest.SerializeToString()


def record_of(stored: bytes, shape: bytes, marks: Sequence[str], rest: bytes) -> CallRecord:
    """The record again.

    Args:
        stored: `Row.stored_id`.
        shape: What `shape_of` made.
        marks: User, workflow, node and tags of its facet.
        rest: `Row.rest`.
    """
    record = CallRecord.FromString(shape)
    record.MergeFromString(rest)
    record.request_id = request_id_of(stored)
    record.user, record.workflow_id, record.node_id, tagset = marks
    if record.HasField("cost_nanos") and not record.HasField("charged_nanos"):
        record.charged_nanos = record.cost_nanos
    if tagset:
        record.tags.update(orjson.loads(tagset))
    return record


def usage_of(sums: tuple[int, ...]) -> Usage:
    """The usage in a row of `schema.SUMS`; estimated when that of at least one call was."""
    usage = Usage(estimated=sums[3] > 0)
    for name, amount in zip(UNITS, sums[6:], strict=True):
        setattr(usage, name, amount)
    return usage


def tagset_of(tags: Mapping[str, str]) -> str:
    """Tags as one text, equal for equal tags."""
    return orjson.dumps(dict(tags), option=orjson.OPT_SORT_KEYS).decode()


def stored_id(request_id: str) -> bytes:
    """A call's id as the table has it: a UUID in its usual form as 16 bytes, anything else as it is behind a 255."""
    if len(request_id) == 36 and request_id[8] == request_id[13] == request_id[18] == request_id[23] == "-":
        digits = request_id.replace("-", "")
        try:
            raw = bytes.fromhex(digits)
        except ValueError:
            raw = b""
        if len(raw) == 16 and raw.hex() == digits and raw[0] != _TEXT:
            return raw
    return bytes((_TEXT,)) + request_id.encode()


def request_id_of(stored: bytes) -> str:
    """The id that `stored_id` was made of."""
    if stored[0] == _TEXT:
        return stored[1:].decode()
    digits = stored.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
