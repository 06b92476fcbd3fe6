"""What another policy would have done with calls that were made, and how sure that is.

Each call is decided again under the candidate policy from its record: the deployments, prices and live figures of that
moment. Where the first choice is the same, what happened stands. Where it is another one, its own figures of that
moment stand for it:

- cost: the tokens that the call really used, at that deployment's price;
- first content: a draw from the measured percentiles of that deployment, always the same for the same call;
- success: the chance that one of the planned attempts succeeds, by their live success rates.

A call whose new first choice had no figures then cannot be judged: its share is told, and it counts on neither side.
Bounds are those of a bootstrap over blocks of consecutive calls, since neighbours in time share their luck (Künsch,
"The jackknife and the bootstrap for general stationary observations", 1989); the same seed gives the same bounds.
"""

import hashlib
import itertools
import math
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from polyroute.api.metrics.v1.metrics_pb2 import OUTCOME_BROKEN, OUTCOME_COMPLETED, OUTCOME_FAILED, CallRecord
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.edge.costs import cost_of
from polyroute.mesh.errors import MeshError
from polyroute.router.explaining import replay
from polyroute.router.policies import Policy

RESAMPLES: Final = 500
BLOCKS: Final = 50
_TOLD: Final = frozenset({OUTCOME_COMPLETED, OUTCOME_FAILED, OUTCOME_BROKEN})
_NANO: Final = 1_000_000_000
_MS: Final = 1000


class Outcome(NamedTuple):
    """What became of a call, or would have; None where it is unknown, or where there is nothing to tell.

    Args:
        cost: USD.
        first_ms: Milliseconds to the first content.
        success: From 0 to 1.
    """

    cost: float | None
    first_ms: float | None
    success: float


class Pair(NamedTuple):
    """A call: what happened, what the candidate policy would have made of it, and whether its first choice differs."""

    happened: Outcome
    instead: Outcome
    moved: bool


class Bounds(NamedTuple):
    """A figure of what happened and of the candidate, and the bounds of 95 % of their difference."""

    happened: float
    instead: float
    low: float
    high: float


class Comparison(NamedTuple):
    """The candidate beside what happened.

    Args:
        calls: All that were looked at.
        judged: Of these, those that could be judged.
        moved: Of these, those that would have gone elsewhere.
        figures: By name; a figure that nothing is known of is not there.
    """

    calls: int
    judged: int
    moved: int
    figures: dict[str, Bounds]

    @property
    def unjudged(self) -> float:
        """The share that could not be judged."""
        return 1 - self.judged / self.calls if self.calls else 0.0


def judged(record: pb.DecisionRecord, call: CallRecord | None, policy: Policy) -> Pair | None:
    """A call under another policy; None when it cannot be judged.

    Args:
        record: The decision, with all that a replay needs.
        call: What became of it; None when that is not on record.
        policy: The candidate.
    """
    if call is None or call.outcome not in _TOLD:
        return None
    happened = _happened(call)
    try:
        plan = replay(record, policy).plan
    except MeshError:  # it would have been refused
        return Pair(happened, Outcome(None, None, 0.0), True)
    first = plan.attempts[0].deployment
    if call.attempts and call.attempts[0].deployment == first:
        return Pair(happened, happened, False)
    known = {one.deployment: one for one in record.candidates}
    figures = known[first].figures
    if not figures.HasField("latency_milliseconds") or not figures.HasField("success_rate"):
        return None
    planned = [known[one.deployment].figures for one in plan.attempts[: plan.max_attempts]]
    failing = math.prod(1 - one.success_rate for one in planned if one.HasField("success_rate"))
    return Pair(
        happened,
        Outcome(
            cost=_cost(call, plan.attempts[0]),
            first_ms=_drawn(figures.latency_milliseconds, record.request_id),
            success=1 - failing,
        ),
        True,
    )


def compared(pairs: Sequence[Pair | None], *, seed: int) -> Comparison:
    """All calls together, in the order of their time.

    Args:
        pairs: What `judged` gave of each.
        seed: Of the bootstrap.
    """
    known = [pair for pair in pairs if pair is not None]
    found = {
        "USD per 1000 calls": _bounds(known, _costs, lambda values: 1000 * statistics.fmean(values), seed),
        "first content P50, ms": _bounds(known, _firsts, lambda values: _percentile(values, 0.5), seed),
        "first content P90, ms": _bounds(known, _firsts, lambda values: _percentile(values, 0.9), seed),
        "success, %": _bounds(known, _successes, lambda values: 100 * statistics.fmean(values), seed),
    }
    figures = {name: bounds for name, bounds in found.items() if bounds is not None}
    return Comparison(len(pairs), len(known), sum(pair.moved for pair in known), figures)


Values = Callable[[Pair], tuple[float, float] | None]
Figure = Callable[[Sequence[float]], float]


def _costs(pair: Pair) -> tuple[float, float] | None:
    return None if pair.happened.cost is None or pair.instead.cost is None else (pair.happened.cost, pair.instead.cost)


def _firsts(pair: Pair) -> tuple[float, float] | None:
    before, after = pair.happened.first_ms, pair.instead.first_ms
    return None if before is None or after is None else (before, after)


def _successes(pair: Pair) -> tuple[float, float] | None:
    return pair.happened.success, pair.instead.success


def _bounds(pairs: Iterable[Pair], values: Values, figure: Figure, seed: int) -> Bounds | None:
    """A figure of both sides over the calls that have it on both, and how sure their difference is."""
    found = [both for both in map(values, pairs) if both is not None]
    if not found:
        return None
    size = max(1, len(found) // BLOCKS)
    blocks = [found[i : i + size] for i in range(0, len(found), size)]
    chance = random.Random(seed)  # noqa: S311 - the same seed gives the same bounds
    differences = []
    for _ in range(RESAMPLES):
        drawn = [both for block in chance.choices(blocks, k=len(blocks)) for both in block]
        differences.append(figure([after for _, after in drawn]) - figure([before for before, _ in drawn]))
    differences.sort()
    cut = int(0.025 * RESAMPLES)
    return Bounds(
        figure([before for before, _ in found]),
        figure([after for _, after in found]),
        differences[cut],
        differences[-cut - 1],
    )


def _happened(call: CallRecord) -> Outcome:
    served = call.outcome == OUTCOME_COMPLETED
    return Outcome(
        cost=call.cost_nanos / _NANO if call.HasField("cost_nanos") else None,
        first_ms=call.first_token_microseconds / _MS if call.first_token_microseconds else None,
        success=float(served),
    )


def _cost(call: CallRecord, attempt: pb.Attempt) -> float | None:
    """What the tokens of a call cost elsewhere, USD; None without tokens or price."""
    if call.outcome != OUTCOME_COMPLETED or not attempt.HasField("price"):
        return None
    return cost_of(call.usage, attempt.price) / _NANO


def _drawn(spread: pb.FigurePercentiles, request_id: str) -> float:
    """A value from a distribution with these percentiles, by a number that belongs to the call.

    Between the percentiles its logarithm is linear; below the median it mirrors what is above, to the tenth percentile.
    """
    number = int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8).digest(), "little") / 2**64
    p50, p90, p99 = (math.log(max(value, 1e-3)) for value in (spread.p50, spread.p90, spread.p99))
    points = ((0.0, 2 * p50 - p90), (0.1, 2 * p50 - p90), (0.5, p50), (0.9, p90), (0.99, p99), (1.0, p99))
    for (left, low), (right, high) in itertools.pairwise(points):
        if number <= right:
            return math.exp(low + (high - low) * (number - left) / (right - left))
    return math.exp(p99)


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1]
