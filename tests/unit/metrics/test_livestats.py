"""Live figures of deployments: what counts, when it leaves, and how much memory it takes."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyroute.api.errors.v1 import errors_pb2 as errors
from polyroute.metrics.livestats import SLOTS, WINDOWS, LiveStats, Sample, WindowFigures, sample_of
from tests.unit.metrics.records import attempt


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def figures(stats: LiveStats, deployment: str = "north") -> tuple[WindowFigures, ...]:
    stats.refresh()
    return dict(stats.figures())[deployment]


def attempts(stats: LiveStats) -> list[int]:
    return [window.attempts for window in figures(stats)]


SUCCESS = Sample(success=True, first_token_ms=100.0, total_ms=1000.0, tokens_per_second=50.0)
FAILURE = Sample(success=False)


class TestSample:
    def test_success(self) -> None:
        """A try without a fault says how long it took and how fast it was after the first token."""
        assert Sample(success=True, first_token_ms=500.0, total_ms=2000.0, tokens_per_second=20.0) == sample_of(
            attempt(), stream=True
        )

    @pytest.mark.parametrize(
        "fault",
        [
            errors.FAULT_CONNECT,
            errors.FAULT_SERVER,
            errors.FAULT_RATE,
            errors.FAULT_QUOTA,
            errors.FAULT_CREDENTIAL,
            errors.FAULT_MODEL_GONE,
            errors.FAULT_AMBIGUOUS,
            errors.FAULT_BAD_ANSWER,
            errors.FAULT_STALL,
            errors.FAULT_TRUNCATED,
        ],
    )
    def test_faults_of_the_deployment(self, fault: errors.Fault.ValueType) -> None:
        """They count as failures; a quick failure makes nobody look quick."""
        sample = sample_of(attempt(fault=fault, first_token_microseconds=0), stream=True)

        assert Sample(success=False) == sample

    @pytest.mark.parametrize("fault", [errors.FAULT_CLIENT, errors.FAULT_CONTEXT, errors.FAULT_FILTER])
    def test_faults_of_the_request(self, fault: errors.Fault.ValueType) -> None:
        """They say nothing of the deployment."""
        assert sample_of(attempt(fault=fault), stream=True) is None

    def test_cancelled(self) -> None:
        """Neither does a try that somebody ended."""
        assert sample_of(attempt(cancelled=True), stream=True) is None

    def test_broken_after_the_first_token(self) -> None:
        """The first token came, and how soon is known; the rest is not."""
        assert Sample(success=False, first_token_ms=500.0) == sample_of(
            attempt(fault=errors.FAULT_TRUNCATED), stream=True
        )

    @pytest.mark.parametrize(
        ("stream", "fields"),
        [
            (False, {}),
            (True, {"output_tokens": 1}),
            (True, {"first_token_microseconds": 0}),
            (True, {"first_token_microseconds": 1_999_000}),
        ],
    )
    def test_no_speed(self, stream: bool, fields: dict[str, Any]) -> None:
        """No stream, a single token, no first token, or all in one piece: there is no speed to speak of."""
        sample = sample_of(attempt(**fields), stream=stream)

        assert sample is not None
        assert sample.tokens_per_second is None


class TestWindows:
    def test_figures(self) -> None:
        """Each window has the counts and the percentiles of what it holds."""
        stats = LiveStats(clock=Clock())
        for _ in range(3):
            stats.observe("north", SUCCESS)
        stats.observe("north", FAILURE)

        for window in figures(stats):
            assert (4, 3) == (window.attempts, window.successes)
            assert window.first_token_ms is not None
            assert 3 == window.first_token_ms.count
            assert 100.0 == pytest.approx(window.first_token_ms.p99, rel=0.02)
            assert window.total_ms is not None
            assert 1000.0 == pytest.approx(window.total_ms.p50, rel=0.02)
            assert window.tokens_per_second is not None
            assert 50.0 == pytest.approx(window.tokens_per_second.p90, rel=0.02)

    def test_nothing_measured(self) -> None:
        """Without a measurement there are no percentiles."""
        stats = LiveStats(clock=Clock())
        stats.observe("north", FAILURE)

        assert {(1, 0, None, None, None)} == {
            (window.attempts, window.successes, window.first_token_ms, window.total_ms, window.tokens_per_second)
            for window in figures(stats)
        }

    def test_attempts_leave_the_windows(self) -> None:
        """A minute later the first window is empty, five minutes later the second, then the deployment is gone."""
        clock = Clock()
        stats = LiveStats(clock=clock)
        stats.observe("north", SUCCESS)

        clock.now += 56
        assert [1, 1, 1] == attempts(stats)
        clock.now += 5
        assert [0, 1, 1] == attempts(stats)
        clock.now += 240
        assert [0, 0, 1] == attempts(stats)
        clock.now += 1500
        assert stats.refresh()
        assert 0 == len(stats)

    def test_percentiles_follow_the_window(self) -> None:
        """What was slow two minutes ago no longer counts in the first window, and still does in the second."""
        clock = Clock()
        stats = LiveStats(clock=clock)
        stats.observe("north", Sample(success=True, first_token_ms=5000.0))
        clock.now += 120
        stats.observe("north", Sample(success=True, first_token_ms=50.0))
        one, five, _ = figures(stats)

        assert one.first_token_ms is not None
        assert five.first_token_ms is not None
        assert 50.0 == pytest.approx(one.first_token_ms.p99, rel=0.02)
        assert 5000.0 == pytest.approx(five.first_token_ms.p99, rel=0.02)

    def test_late_news(self) -> None:
        """An attempt that is reported late lands where it belongs; one from the future ended now."""
        stats = LiveStats(clock=Clock())
        stats.observe("north", SUCCESS, age=-3600)
        stats.observe("north", SUCCESS, age=100)
        stats.observe("north", SUCCESS, age=1000)
        stats.observe("north", SUCCESS, age=10_000)

        assert [1, 2, 3] == attempts(stats)

    @given(st.lists(st.tuples(st.floats(0, 400), st.floats(0, 2000)), max_size=60))
    @settings(deadline=None)
    def test_agrees_with_a_list(self, events: list[tuple[float, float]]) -> None:
        """At any time each window holds the attempts of at least 95 % and at most 100 % of its length."""
        clock = Clock()
        stats = LiveStats(clock=clock)
        ends = []
        for passed, age in events:
            clock.now += passed
            stats.observe("north", SUCCESS, age=age)
            ends.append(clock.now - age)
            stats.refresh()
            found = dict(stats.figures()).get("north")
            for index, seconds in enumerate(WINDOWS):
                sure = sum(clock.now - end < seconds * (1 - 1 / SLOTS) for end in ends)
                possible = sum(clock.now - end <= seconds for end in ends)
                assert sure <= (found[index].attempts if found else 0) <= possible

    def test_says_whether_anything_changed(self) -> None:
        """A new attempt and one that leaves are changes; time alone is none."""
        clock = Clock()
        stats = LiveStats(clock=clock)
        stats.observe("north", SUCCESS)
        seen = [stats.refresh(), stats.refresh()]
        clock.now += 61
        seen += [stats.refresh(), stats.refresh()]

        assert [True, False, True, False] == seen


class TestMemory:
    def test_deployments_are_bounded(self) -> None:
        """The one longest without an attempt makes room."""
        stats = LiveStats(max_deployments=2, clock=Clock())
        for name in ("north", "south", "north", "west"):
            stats.observe(name, SUCCESS)

        assert ["north", "west"] == [name for name, _ in stats.figures()]

    def test_flat_in_traffic(self) -> None:
        """A hundred thousand attempts over hours take the memory that the first half hour took."""
        clock = Clock()
        stats = LiveStats(clock=clock)
        dice = random.Random(1)
        sizes = []
        for number in range(100_000):
            clock.now += 0.18
            first = dice.lognormvariate(5, 0.7)
            stats.observe("north", Sample(success=True, first_token_ms=first, total_ms=first * 9))
            if number % 10_000 == 9999:
                sizes.append(steps_kept(stats))

        assert max(sizes[1:]) < 1.1 * sizes[0]
        assert sum(len(window.slots) for window in stats._deployments["north"]._windows) <= 3 * SLOTS


def steps_kept(stats: LiveStats) -> int:
    """How many counts are held: all that grows."""
    windows = [window for deployment in stats._deployments.values() for window in deployment._windows]
    slots = [slot for window in windows for slot in (*window.slots.values(), window.total)]
    return sum(len(sketch.steps) for slot in slots for sketch in slot.sketches)
