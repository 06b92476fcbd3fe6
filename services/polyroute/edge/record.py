"""The record of a call: the wide row that metrics keeps, made of its trail once it is over."""

from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.api.metrics.v1.metrics_pb2 import AttemptCharge, CallRecord
from polyroute.edge.charging import COUNTS, MOST_COST, ONCE, ChargeRow, multiplied, plausible, total
from polyroute.edge.costs import cost_of
from polyroute.edge.trail import Trail, timestamp

MILLION: Final = 1_000_000


def record_of(trail: Trail) -> CallRecord:
    """The wide row of a call that is over."""
    plain = len(trail.tried) == 1 and trail.outcome == metrics_pb2.OUTCOME_COMPLETED
    rows = [] if plain else trail.rows()
    cost = _cost(trail) if plain else total(rows)
    record = CallRecord(
        request_id=trail.request_id,
        start_time=timestamp(trail.wall_ns),
        caller=trail.caller,
        outcome=trail.outcome,
        reason=trail.reason,
        http_status=trail.status if trail.http else 0,
        usage=_together(rows) if rows else trail.usage,
        cost_nanos=cost,
        charged_nanos=_charged(trail, [row.cost for row in rows] or [cost]),
        total_microseconds=int((perf_counter() - trail.began) * MILLION),
        first_token_microseconds=int(trail.first_token * MILLION),
        overhead_microseconds=int(trail.overhead * MILLION),
        attempts=trail.attempts,
        user=trail.user,
        tags=trail.tags or None,
        workflow_id=trail.workflow,
        node_id=trail.node,
        finish_reason=trail.finish,
        held=trail.admission is not None and trail.admission.paid is not None,
        noted=trail.noted,
        charges=[_charge(trail, row) for row in rows],
    )
    if trail.admission is not None and (rows or trail.admission.multiplier != ONCE):
        record.multiplier_millionths = trail.admission.multiplier
    if trail.facts is not None:
        record.operation = trail.facts.operation
        record.requested_model = trail.facts.model
        record.stream = trail.facts.stream
    record.model = trail.model
    if trail.decision is not None:
        decided = trail.decision.record
        record.catalog_version = decided.catalog_version
        record.policy, record.policy_version = decided.policy, decided.policy_version
    if trail.attempt is not None:
        record.deployment = trail.attempt.deployment
        record.provider = trail.attempt.provider
        record.passed_on = trail.attempt.passed_on
        record.price_version = trail.attempt.price.version
    return record


def _cost(trail: Trail) -> int | None:
    """What the answer cost, nano-USD; None when that is unknown or cannot be true, 0 when nothing was used."""
    if trail.usage is None:
        return 0
    if trail.attempt is None or not trail.attempt.HasField("price") or not plausible(trail.usage):
        return None
    cost = cost_of(trail.usage, trail.attempt.price)
    return cost if 0 <= cost <= MOST_COST else None


def _charged(trail: Trail, costs: Iterable[int | None]) -> int | None:
    """What the caller is charged for attempts, nano-USD; None when the cost of none of them is known."""
    multiplier = ONCE if trail.admission is None else trail.admission.multiplier
    amounts = [multiplied(cost, multiplier) for cost in costs if cost is not None]
    # the ledger takes no amount that cannot be true
    return sum(amount for amount in amounts if amount <= MOST_COST) if amounts else None


def _together(rows: Sequence[ChargeRow]) -> Usage:
    """What several attempts are charged for."""
    if len(rows) == 1:
        return rows[0].usage
    usage = Usage(estimated=any(row.usage.estimated for row in rows))
    for row in filter(lambda row: plausible(row.usage), rows):
        for name in COUNTS:
            setattr(usage, name, getattr(usage, name) + getattr(row.usage, name))
        for name, count in row.usage.other.items():
            usage.other[name] += count
    return usage


def _charge(trail: Trail, row: ChargeRow) -> AttemptCharge:
    price = next((price for attempted, price in trail.tried if attempted.number == row.attempt), None)
    version = price.version if price is not None else ""
    charge = AttemptCharge(attempt=row.attempt, usage=row.usage, rule=row.rule, price_version=version)
    if row.cost is not None:
        charge.cost_nanos = row.cost
    return charge
