"""What another policy would have done, out of what is on record: what stays the same, and what is estimated."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.metrics.v1 import metrics_pb2 as metrics
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.cli.estimates import Comparison, Outcome, Pair, _drawn, compared, judged
from polyroute.router.decide import decide
from polyroute.router.policies import Policy, compiled
from polyroute.router.policyconfig import PolicyConfig
from tests.fakes.catalogs import NOW, ask, opened
from tests.unit.router.live import live, spread, window

PAIR = """
models:
  m:
    deployments:
      - {provider: p, model: a, price: {input: 1, output: 1}}
      - {provider: p, model: b, price: {input: 9, output: 9}}
router: {max_attempts: 2}
policies: {cheap: {sort: price}}
routing: {policy: cheap}
"""


def policy(**fields: Any) -> Policy:
    """A candidate."""
    return compiled("candidate", PolicyConfig.model_validate(fields))


def recorded(known: bool = True) -> pb.DecisionRecord:
    """A call that went where it is cheap."""
    store = opened(PAIR, "p")
    windows = {"p__a": window(0.5, spread(900))} | ({"p__b": window(0.9, spread(100))} if known else {})
    store.measure(live(**windows))
    request = ask("m")
    request.explain = True
    return decide(request, store.view, NOW).record


def call(outcome: metrics.Outcome.ValueType = metrics.OUTCOME_COMPLETED, **fields: Any) -> metrics.CallRecord:
    """What became of it."""
    attempts = [metrics.AttemptRecord(deployment="p/a")]
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    return metrics.CallRecord(
        **{
            "outcome": outcome,
            "attempts": attempts,
            "usage": usage,
            "cost_nanos": 2_000_000_000,
            "first_token_microseconds": 800_000,
            **fields,
        }
    )


def test_the_same_choice_keeps_its_outcome() -> None:
    """Nothing is estimated that is known."""
    pair = judged(recorded(), call(), policy(sort="price"))

    happened = Outcome(2.0, 800.0, 1.0)
    assert Pair(happened, happened, moved=False) == pair


def test_another_choice_is_estimated() -> None:
    """The same tokens at the other price, its own speed, and the chance of both attempts."""
    pair = judged(recorded(), call(), policy(sort="latency"))

    assert pair is not None
    assert (True, 18.0, 100.0) == (pair.moved, pair.instead.cost, round(pair.instead.first_ms or 0, 6))
    assert 0.95 == pytest.approx(pair.instead.success)


def test_what_cannot_be_judged() -> None:
    """No outcome, or a choice whose figures nobody knew."""
    assert judged(recorded(), None, policy()) is None
    assert judged(recorded(), call(metrics.OUTCOME_CANCELLED), policy()) is None
    assert judged(recorded(known=False), call(), policy(order="p/b")) is None


def test_a_policy_that_refuses() -> None:
    """Nobody may serve the call: that is no success, and costs nothing that could be compared."""
    pair = judged(recorded(), call(), policy(only="q"))

    assert pair is not None
    assert Outcome(None, None, 0.0) == pair.instead


def test_failures_have_no_speed() -> None:
    """A call that failed before any content."""
    pair = judged(recorded(), call(metrics.OUTCOME_FAILED, first_token_microseconds=0), policy(sort="price"))

    assert pair is not None
    assert (None, 0.0) == (pair.happened.first_ms, pair.happened.success)


def pairs(count: int, before: float, after: float) -> list[Pair | None]:
    """Calls that cost so much, and would have cost so much."""
    return [
        Pair(Outcome(before + i % 7, 100 + i % 11, 1.0), Outcome(after + i % 5, 200 + i % 13, 0.9), moved=True)
        for i in range(count)
    ]


def test_bounds_hold_the_difference_and_no_other() -> None:
    """A thousand calls: the difference lies between the bounds, which are close, and nothing is far away."""
    found = compared([*pairs(1000, 10.0, 5.0), None, None], seed=1)

    assert (1002, 1000, 1000) == (found.calls, found.judged, found.moved)
    assert 2 / 1002 == pytest.approx(found.unjudged)
    cost = found.figures["USD per 1000 calls"]
    assert cost.low <= cost.instead - cost.happened <= cost.high < 0
    assert 300 > cost.high - cost.low
    success = found.figures["success, %"]
    assert 100.0 == success.happened
    assert 90.0 == pytest.approx(success.instead)


def test_the_same_seed_gives_the_same_bounds() -> None:
    """And another one hardly others."""
    some = pairs(200, 3.0, 4.0)

    assert compared(some, seed=1) == compared(some, seed=1)
    assert compared(some, seed=1) != compared(some, seed=2)


def test_nothing_to_compare() -> None:
    """No calls, or none that could be judged."""
    assert Comparison(0, 0, 0, {}) == compared([], seed=1)
    assert Comparison(2, 0, 0, {}) == compared([None, None], seed=1)
    assert 1.0 == compared([None, None], seed=1).unjudged


@given(st.floats(0.1, 1e5), st.floats(1, 10), st.floats(1, 10))
def test_draws_have_the_percentiles(p50: float, wide: float, wider: float) -> None:
    """Half of the draws are at most the median, nine of ten at most the ninetieth percentile."""
    found = pb.FigurePercentiles(p50=p50, p90=p50 * wide, p99=p50 * wide * wider)
    values = sorted(_drawn(found, f"r-{i}") for i in range(2000))

    assert values == sorted(_drawn(found, f"r-{i}") for i in range(2000))
    assert sum(value <= found.p50 * 1.0001 for value in values) >= 900
    assert 1700 <= sum(value <= found.p90 * 1.0001 for value in values)
    assert found.p99 * 1.0001 >= values[-1]
