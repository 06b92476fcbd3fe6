"""Records as the ledger charges their calls now: whatever was corrected, and calls that left no record.

What an attempt is charged by its latest adjustment takes the place of what the record says, so that it makes no
difference which of them came first, nor how often they came.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from polyroute.api.auth.v1.ledger_pb2 import Adjustment
from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.metrics.v1.metrics_pb2 import OUTCOME_INTERRUPTED, AttemptCharge, CallRecord
from polyroute.metrics.rows import LAST_SECOND, UNITS, microseconds

ONCE: Final = 1_000_000  # a multiplier that changes nothing, in millionths
_MILLISECONDS: Final = slice(0, 12)  # of the digits of a UUIDv7
_VERSION: Final = 12  # the digit that says so


def adjusted(record: CallRecord, adjustments: Iterable[Adjustment]) -> CallRecord:
    """The record with what the ledger charges now.

    Args:
        record: As it was made, or as an earlier adjustment has left it.
        adjustments: Of this call, one for each attempt that was adjusted.
    """
    rows = {row.attempt: row for row in _rows(record)}
    for one in adjustments:
        row = rows.setdefault(one.attempt, AttemptCharge(attempt=one.attempt))
        row.rule = one.rule
        row.price_version = one.price_version or row.price_version
        if one.HasField("cost_nanos"):
            row.cost_nanos = one.cost_nanos
        elif not one.HasField("charged_nanos"):  # else the ledger has an amount, and only the record a cost
            row.ClearField("cost_nanos")
        row.ClearField("charged_nanos")
        if one.HasField("charged_nanos"):
            row.charged_nanos = one.charged_nanos
    found = CallRecord()
    found.CopyFrom(record)
    del found.charges[:]
    found.charges.extend(rows[number] for number in sorted(rows))
    _add_up(found)
    return found


def stand_in(request_id: str, adjustments: Sequence[Adjustment], start_us: int) -> CallRecord:
    """What stands for a call that has no record.

    Args:
        request_id: The call.
        adjustments: What the ledger says of its attempts.
        start_us: When it began, microseconds since 1970.
    """
    ordered = sorted(adjustments, key=lambda one: one.attempt)
    said = [one for one in ordered if one.HasField("attribution")]
    last = (said or ordered)[-1]
    mark = last.attribution
    record = CallRecord(
        request_id=request_id,
        caller=last.caller,
        operation=mark.operation,
        model=last.model,
        deployment=last.deployment,
        provider=mark.provider,
        outcome=OUTCOME_INTERRUPTED,
        usage=_together(ordered),
        cost_nanos=0,
        price_version=last.price_version,
        user=mark.user,
        workflow_id=mark.workflow_id,
        node_id=mark.node_id,
        tags=mark.tags,
    )
    record.start_time.FromMicroseconds(start_us)
    return adjusted(record, ordered)


def is_stand_in(record: CallRecord) -> bool:
    """Whether it stands for a call that has no record."""
    return record.outcome == OUTCOME_INTERRUPTED


def began(request_id: str, adjustments: Iterable[Adjustment]) -> int:
    """When a call began of which there is no record, microseconds since 1970.

    The ids of calls say it, to the millisecond (https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-7); where one
    does not, what is known of its attempts.
    """
    digits = request_id.replace("-", "")
    if len(digits) == 32 and digits[_VERSION] == "7":
        try:
            return min(int(digits[_MILLISECONDS], 16) * 1000, LAST_SECOND * 1_000_000)
        except ValueError:
            pass
    moments = (one.start_time if one.HasField("start_time") else one.post_time for one in adjustments)
    return min(map(microseconds, moments))


def _rows(record: CallRecord) -> Iterator[AttemptCharge]:
    """What each attempt is charged, said of each; a record of one that simply completed says it without a row."""
    if not record.charges:
        if record.HasField("cost_nanos") and record.cost_nanos == 0:
            return
        number = max(1, len(record.attempts))
        row = AttemptCharge(attempt=number, usage=record.usage, price_version=record.price_version)
        if record.HasField("cost_nanos"):
            row.cost_nanos = record.cost_nanos
        if record.HasField("charged_nanos"):
            row.charged_nanos = record.charged_nanos
        yield row
        return
    multiplier = _multiplier(record)
    for said in record.charges:
        row = AttemptCharge()
        row.CopyFrom(said)
        if len(record.charges) == 1 and record.HasField("charged_nanos"):
            row.charged_nanos = record.charged_nanos
        elif row.HasField("cost_nanos") and not row.HasField("charged_nanos"):
            row.charged_nanos = (row.cost_nanos * multiplier + ONCE // 2) // ONCE
        yield row


def _multiplier(record: CallRecord) -> int:
    """What the charge of each attempt was worked out with; of a sender that does not say it, as near as may be."""
    cost, charged = record.cost_nanos, record.charged_nanos
    if record.multiplier_millionths or cost <= 0 or charged <= 0:
        return record.multiplier_millionths or ONCE
    return (charged * ONCE + cost // 2) // cost


def _add_up(record: CallRecord) -> None:
    """Makes the sums of a record those of its rows."""
    record.ClearField("cost_nanos")
    record.ClearField("charged_nanos")
    if all(row.HasField("cost_nanos") for row in record.charges):
        record.cost_nanos = sum(row.cost_nanos for row in record.charges)
    known = [row.charged_nanos for row in record.charges if row.HasField("charged_nanos")]
    if known:
        record.charged_nanos = sum(known)


def _together(adjustments: Iterable[Adjustment]) -> Usage:
    usage = Usage(estimated=True)
    for one in adjustments:
        for name in UNITS:
            setattr(usage, name, getattr(usage, name) + getattr(one.usage, name))
    return usage
