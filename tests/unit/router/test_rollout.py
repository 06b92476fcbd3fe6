"""Staged rollouts: steps while all is well, and back by itself as soon as a guard is broken."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from polyroute.api.chat.v1.chat_pb2 import FINISH_REASON_CONTENT_FILTER, FINISH_REASON_STOP
from polyroute.api.metrics.v1 import metrics_pb2 as metrics
from polyroute.router import rollout
from polyroute.router.config import CatalogConfig, RolloutConfig
from polyroute.router.rollout import DONE, ROLLED_BACK, RUNNING, Side, next_row, overlaid, side
from polyroute.router.store import RolloutRow
from tests.fakes.catalogs import NOW, read

MINUTES = 600.0
GOOD = Side(calls=100, first_tokens=[0.2] * 100, costs=[0.01] * 100)


def config(**fields: Any) -> RolloutConfig:
    """A rollout to `new`."""
    return RolloutConfig.model_validate({"to": "new", **fields})


def begun(plan: RolloutConfig) -> RolloutRow:
    """Its first step."""
    return rollout.began("fast", plan, {"old": 1}, NOW)


def test_steps_while_all_is_well() -> None:
    """Each step is watched as long as was asked for; the last one ends it."""
    plan = config(steps=[1, 25, 100], every="10m")
    row, seen = begun(plan), []
    for minute in range(0, 45, 5):
        row = next_row(plan, row, GOOD, GOOD, NOW + minute * 60)
        seen.append((row.state, rollout.percent_of(plan, row)))

    running = [(RUNNING, share) for share in (1, 1, 25, 25, 100, 100)]
    assert [*running, (DONE, 100), (DONE, 100), (DONE, 100)] == seen


def test_few_calls_lead_nobody_on() -> None:
    """A step that hardly anybody took says nothing: it waits for more calls."""
    plan = config(min_calls=50)
    row = next_row(plan, begun(plan), Side(calls=49), GOOD, NOW + 2 * MINUTES)

    assert (RUNNING, 0, "49 calls of 50, 0 failed") == (row.state, row.step, row.reason)


@pytest.mark.parametrize(
    ("guards", "new", "reason"),
    [
        ({"error_rate": 0.05}, Side(100, failed=6), "error_rate is 0.06 of at most 0.05 in 100 calls"),
        ({"error_rate": "2x"}, Side(100, failed=5), "error_rate is 0.05 of at most 0.04 in 100 calls"),
        ({"refusal_rate": 0.1}, Side(200, refused=21), "refusal_rate is 0.105 of at most 0.1 in 200 calls"),
        (
            {"first_token_p90": "1.5x"},
            Side(60, first_tokens=[0.1] * 53 + [0.31] * 7),
            "first_token_p90 is 0.31 of at most 0.3 in 60 calls",
        ),
        (
            {"first_token_p90": 0.25},
            Side(60, first_tokens=[0.1] * 53 + [0.31] * 7),
            "first_token_p90 is 0.31 of at most 0.25 in 60 calls",
        ),
        ({"cost_per_call": "2x"}, Side(60, costs=[0.021] * 60), "cost_per_call is 0.021 of at most 0.02 in 60 calls"),
        ({"cost_per_call": 0.02}, Side(60, costs=[0.021] * 60), "cost_per_call is 0.021 of at most 0.02 in 60 calls"),
    ],
)
def test_each_guard_rolls_back(guards: dict[str, Any], new: Side, reason: str) -> None:
    """At once, whatever the step; the reason has the numbers."""
    plan = config(guards={"error_rate": None, **guards})
    old = GOOD._replace(failed=2)

    row = next_row(plan, begun(plan), new, old, NOW + 1)

    assert (ROLLED_BACK, reason) == (row.state, row.reason)
    assert 0 == rollout.percent_of(plan, row)
    assert row == next_row(plan, row, GOOD, GOOD, NOW + 9 * MINUTES)


@pytest.mark.parametrize(
    ("guards", "new"),
    [
        ({"error_rate": 0.05}, Side(100, failed=5)),
        ({"error_rate": "2x"}, Side(100, failed=4)),
        ({"first_token_p90": "1.5x"}, Side(49, first_tokens=[9.0] * 49)),
        ({"cost_per_call": "1x"}, Side(60, costs=[0.01] * 60)),
        ({}, Side()),
    ],
)
def test_guards_that_hold(guards: dict[str, Any], new: Side) -> None:
    """At the bound is not beyond it, and a few slow calls prove nothing."""
    plan = config(guards={"error_rate": None, **guards})

    assert RUNNING == next_row(plan, begun(plan), new, GOOD._replace(failed=2), NOW + 1).state


def test_what_no_good_call_could_mend_is_not_waited_for() -> None:
    """Three failures of the first three calls: fifty calls with three failures would be too many already."""
    plan = config(guards={"error_rate": 0.05}, min_calls=50)

    assert RUNNING == next_row(plan, begun(plan), Side(3, failed=2), GOOD, NOW + 1).state
    assert ROLLED_BACK == next_row(plan, begun(plan), Side(3, failed=3), GOOD, NOW + 1).state


def test_factor_of_a_flawless_model() -> None:
    """Twice nothing would be nothing: one failure of a hundred is no reason to go back."""
    plan = config(guards={"error_rate": "2x"}, min_calls=50)

    assert RUNNING == next_row(plan, begun(plan), Side(100, failed=4), GOOD, NOW + 1).state
    assert ROLLED_BACK == next_row(plan, begun(plan), Side(100, failed=5), GOOD, NOW + 1).state


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 60), st.floats(0, 900)), max_size=30))
def test_never_from_one_end_to_the_other(steps: list[tuple[int, int, float]]) -> None:
    """Whatever happens, a share grows one step at a time, and what has ended stays ended."""
    plan = config(steps=[1, 5, 25, 100], every=MINUTES)
    row, now = begun(plan), NOW
    for calls, failed, passed in steps:
        now += passed
        after = next_row(plan, row, Side(calls, failed=min(calls, failed)), GOOD, now)
        if row.state != RUNNING:
            assert row == after
        assert after.step in {row.step, row.step + 1}
        assert after.step == row.step or now - row.since_us / 1e6 >= MINUTES - 1e-6
        row = after


@pytest.mark.parametrize(
    ("targets", "percent", "expected"),
    [
        ({"old": 1}, 1, {"old": 99, "new": 1}),
        ({"old": 7}, 5, {"old": 95, "new": 5}),
        ({"old": 1}, 100, {"new": 1}),
        ({"old": 3, "older": 1}, 20, {"old": 60, "older": 20, "new": 20}),
        ({"old": 1}, 0.5, {"old": 199, "new": 1}),
        ({"old": 1, "new": 1}, 10, {"old": 90, "new": 10}),
    ],
)
def test_shares(targets: dict[str, int], percent: float, expected: dict[str, int]) -> None:
    """The new model has its share, the others keep theirs of the rest; the new one is last."""
    catalog = CatalogConfig.model_validate(
        {"aliases": {"fast": {"targets": targets, "rollout": {"to": "new", "steps": [percent]}}}}
    )
    led = overlaid(catalog, {}).aliases["fast"].targets
    total = sum(led.values())

    assert {name: weight / sum(expected.values()) for name, weight in expected.items()} == {
        name: weight / total for name, weight in led.items()
    }
    assert "new" == list(led)[-1]
    assert percent != int(percent) or percent == 100 or 100 == total


def test_rolled_back_is_what_it_was() -> None:
    """The weights as they were written; another plan begins at its own first step."""
    catalog = read("aliases: {fast: {targets: {a: 3, b: 2}, rollout: {to: new, steps: [10]}}}")
    plan = catalog.aliases["fast"].rollout
    assert plan is not None
    row = rollout.began("fast", plan, catalog.aliases["fast"].targets, NOW)._replace(state=ROLLED_BACK)
    again = read("aliases: {fast: {targets: {a: 3, b: 2}, rollout: {to: new, steps: [10], note: again}}}")

    assert {"a": 3, "b": 2} == overlaid(catalog, {"fast": row}).aliases["fast"].targets
    assert {"a": 54, "b": 36, "new": 10} == overlaid(again, {"fast": row}).aliases["fast"].targets


def call(outcome: metrics.Outcome.ValueType = metrics.OUTCOME_COMPLETED, **fields: Any) -> metrics.CallRecord:
    """A record."""
    return metrics.CallRecord(outcome=outcome, **{"requested_model": "fast", **fields})


def test_sides_of_records() -> None:
    """Calls of the alias, whatever was said beside it; those that the caller gave up or that were refused are none."""
    records = [
        call(first_token_microseconds=300_000, cost_nanos=2_000_000, finish_reason=FINISH_REASON_STOP),
        call(requested_model="Fast:latency", first_token_microseconds=100_000, cost_nanos=0),
        call(finish_reason=FINISH_REASON_CONTENT_FILTER),
        call(metrics.OUTCOME_FAILED),
        call(metrics.OUTCOME_BROKEN, first_token_microseconds=200_000),
        call(metrics.OUTCOME_CANCELLED),
        call(metrics.OUTCOME_REFUSED),
        call(requested_model="new"),
    ]

    found = side(records, frozenset({"fast"}))

    assert Side(5, 2, 1, [0.1, 0.2, 0.3], [0.002, 0.0]) == found
    assert (0.3, 0.001) == (found.first_token_p90, found.cost_per_call)
    assert (0.0, 0.0) == (Side().first_token_p90, Side().cost_per_call)


@pytest.mark.parametrize(
    "fields",
    [{"steps": [5, 1]}, {"steps": [1, 1]}, {"every": "soon"}, {"guards": {"error_rate": "5%"}}, {"steps": [101]}],
)
def test_what_cannot_be_meant(fields: dict[str, Any]) -> None:
    """Shares that fall, spans and limits in no known form."""
    with pytest.raises(ValidationError):
        config(**fields)


def test_spans() -> None:
    """In seconds or in words."""
    assert [600.0, 90.0, 5400.0] == [config(every=one).every for one in ("10m", 90, "1.5h")]
