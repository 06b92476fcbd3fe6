"""Live figures: what they say, how few values widen, how old ones fade, and how much memory they take."""

import math
import random

import pytest
from hypothesis import example, given, seed
from hypothesis import strategies as st

from polyroute.router.health.chance import chance, explorer
from polyroute.router.health.deadline import expected, first_token_seconds, timely
from polyroute.router.health.outcomes import Outcome
from polyroute.router.health.scores import (
    NO_POOL,
    UNKNOWN,
    Figures,
    Recent,
    Spread,
    blended,
    merged,
    pool_of,
)
from polyroute.router.health.sketch import LARGEST, SMALLEST, Sketch
from tests.unit.router.health.helpers import GOOD, stats, window

NOTHING = window(0)


def first(figures: Figures) -> float:
    assert figures.first_token is not None
    return figures.first_token.p50


def streams(recent: Recent, milliseconds: float, count: int, now: float) -> None:
    for _ in range(count):
        recent.good(GOOD._replace(first_token_ms=milliseconds, total_ms=10 * milliseconds), now)


class TestSketch:
    @seed(11)
    @example([SMALLEST, LARGEST])
    @example([0.0, 1e12, 1.0])
    @given(st.lists(st.floats(0.02, 1e7), min_size=1, max_size=200))
    def test_percentiles(self, values: list[float]) -> None:
        """Each is within two of a hundred of the true one."""
        sketch = Sketch()
        sketch.add(values, 1.0)
        bounded = sorted(min(max(value, SMALLEST), LARGEST) for value in values)
        for share in (0.5, 0.9, 0.99):
            true = bounded[math.ceil(share * len(bounded)) - 1]
            assert true == pytest.approx(sketch.percentiles((share,))[0], rel=0.021)

    def test_scaling_changes_no_percentile(self) -> None:
        """Only the weight."""
        sketch = Sketch()
        sketch.add(range(1, 101), 1.0)
        before = sketch.percentiles((0.5, 0.9))
        sketch.scale(0.25)

        assert before == sketch.percentiles((0.5, 0.9))
        assert 25.0 == pytest.approx(sketch.weight)

    def test_memory(self) -> None:
        """A hundred thousand values take a few hundred numbers."""
        chances, sketch = random.Random(3), Sketch()
        sketch.add((10 ** chances.uniform(-5, 12) for _ in range(100_000)), 1.0)

        assert len(sketch._steps) < 600


class TestRecent:
    def test_new_values_weigh_more(self) -> None:
        """After three half-lives, eight old ones weigh as much as a new one."""
        recent = Recent(100.0)
        streams(recent, 1000.0, 80, 100.0)
        streams(recent, 100.0, 11, 160.0)
        own = recent.figures(160.0)

        assert 21.0 == pytest.approx(own.attempts, rel=0.01)
        assert own.first_token[0] is not None
        assert 100.0 == pytest.approx(own.first_token[0].p50, rel=0.03)

    def test_failures_are_no_measure_of_time(self) -> None:
        """They lower the success rate and nothing else."""
        recent = Recent(100.0)
        streams(recent, 400.0, 9, 100.0)
        recent.bad(100.0)
        own = recent.figures(100.0)

        assert [10.0, 0.9, 9.0] == pytest.approx([own.attempts, own.success, own.first_token[1]])

    def test_a_few_stand_for_many(self) -> None:
        """A thousand attempts in a second count as a thousand, though only some are looked at."""
        recent = Recent(100.0)
        streams(recent, 400.0, 1000, 100.5)
        own = recent.figures(100.5)

        assert [1000.0, 1000.0] == pytest.approx([own.attempts, own.first_token[1]], rel=0.02)

    def test_speed(self) -> None:
        """Tokens after the first one, by the time after the first one."""
        recent = Recent(100.0)
        recent.good(Outcome(first_token_ms=500.0, total_ms=1500.0, output_tokens=51), 100.0)
        recent.good(Outcome(first_token_ms=500.0, total_ms=501.0, output_tokens=51), 100.0)  # came in one read
        recent.good(Outcome(total_ms=1500.0, output_tokens=51), 100.0)  # not streamed
        own = recent.figures(100.0)

        assert own.speed[0] is not None
        assert [50.0, 1.0] == pytest.approx([own.speed[0].p50, own.speed[1]], rel=0.021)

    def test_memory(self) -> None:
        """Traffic of many days leaves no more behind than that of a minute."""
        recent, now = Recent(0.0), 0.0
        for place in range(20_000):
            now += 40.0 if place % 100 == 0 else 0.1
            recent.good(GOOD._replace(first_token_ms=100.0 + place % 50), now)
        own = recent.figures(now)

        assert len(recent._new) <= 32
        assert len(recent._first._steps) < 60
        assert 0 < own.attempts < 300


class TestMerged:
    def test_nothing_known(self) -> None:
        """Unknown is said, not guessed, though the pool has figures."""
        pool = pool_of([Figures(first_token=Spread(1.0, 2.0, 3.0), success=1.0, weight=50.0)])

        assert UNKNOWN == merged(Recent(100.0), None, 0.0, pool, 100.0)

    def test_many_values_speak_for_themselves(self) -> None:
        """A minute of a thousand calls leaves nothing of the half hour's figure."""
        pushed = stats("d", window(2000, 100.0), window(4000, 400.0), window(9000, 400.0))

        assert 100.0 == pytest.approx(first(merged(Recent(100.0), pushed, 100.0, NO_POOL, 100.0)))

    def test_few_values_stay_near_the_wider_window(self) -> None:
        """One slow call in the last minute does not make a deployment slow."""
        pushed = stats("d", window(1, 4000.0), window(300, 400.0), window(2000, 400.0))

        assert 400.0 * 10 ** (1 / 11) == pytest.approx(
            first(merged(Recent(100.0), pushed, 100.0, NO_POOL, 100.0)), rel=0.01
        )

    def test_few_values_stay_near_the_pool(self) -> None:
        """Where there is no wider window, what is usual for the model is the best guess."""
        pool = pool_of([Figures(first_token=Spread(400.0, 500.0, 600.0), success=1.0, weight=50.0)])
        pushed = stats("d", window(10, 1600.0), window(10, 1600.0), window(10, 1600.0))
        found = first(merged(Recent(100.0), pushed, 100.0, pool, 100.0))

        assert 400.0 < found < 1600.0

    def test_the_own_last_seconds_count_most(self) -> None:
        """Metrics is a second late and its minute is long: a change shows in the own attempts first."""
        recent = Recent(100.0)
        streams(recent, 2000.0, 60, 100.0)
        pushed = stats("d", window(500, 400.0), window(2500, 400.0), window(9000, 400.0))

        assert 1500.0 < first(merged(recent, pushed, 100.0, NO_POOL, 100.0)) < 2050.0

    def test_old_values_give_way(self) -> None:
        """A minute without any push leaves half of the minute's weight; an hour leaves the half hour's figure alone."""
        pushed = stats("d", window(40, 4000.0), window(200, 400.0), window(2000, 400.0))
        fresh, old = (merged(Recent(0.0), pushed, 100.0, NO_POOL, now) for now in (101.0, 3700.0))

        assert first(fresh) > 2000.0
        assert 400.0 == pytest.approx(first(old), rel=0.01)
        assert (False, True) == (fresh.stale, old.stale)

    def test_success(self) -> None:
        """It is blended like everything else, and never leaves 0 to 1."""
        recent = Recent(100.0)
        for _ in range(90):
            recent.bad(100.0)
        pushed = stats("d", window(100, good=100), window(500, good=500), window(900, good=900))
        found = merged(recent, pushed, 100.0, NO_POOL, 100.0).success

        assert found is not None
        assert 0.05 < found < 0.15

    def test_age(self) -> None:
        """How old the newest value may be, by the shortest window that has one."""
        recent = Recent(0.0)
        quiet = stats("d", NOTHING, NOTHING, window(10))
        busy = stats("d", window(1), window(5), window(10))
        ages = [merged(recent, pushed, 100.0, NO_POOL, 102.0).age for pushed in (busy, quiet)]
        recent.good(GOOD, 101.5)

        assert [2.0, 302.0, 0.5] == [*ages, merged(recent, quiet, 100.0, NO_POOL, 102.0).age]

    @seed(12)
    @given(st.floats(1, 1e5), st.floats(1, 1e5), st.floats(0, 1e6))
    def test_between(self, prior: float, seen: float, values: float) -> None:
        """A blend lies between what was known and what was seen."""
        found = blended(Spread(prior, prior, prior), Spread(seen, seen, seen), values).p50

        assert min(prior, seen) * 0.999 <= found <= max(prior, seen) * 1.001


class TestSpread:
    @pytest.mark.parametrize(("share", "value"), [(0.5, 100.0), (0.9, 300.0), (0.99, 900.0)])
    def test_known_percentiles(self, share: float, value: float) -> None:
        """At the known ones nothing is guessed."""
        assert value == pytest.approx(Spread(100.0, 300.0, 900.0).at(share))

    def test_between_them(self) -> None:
        """The 95th lies between the 90th and the 99th."""
        assert 300.0 < Spread(100.0, 300.0, 900.0).at(0.95) < 900.0


class TestExploring:
    def test_the_budget(self) -> None:
        """Two of a hundred calls go to a stale deployment, evenly among them."""
        drawn = [explorer(f"call-{number}", ["a", "b"], 0.02) for number in range(20_000)]

        assert [0.01, 0.01] == [pytest.approx(drawn.count(name) / len(drawn), rel=0.2) for name in ("a", "b")]

    def test_repeats(self) -> None:
        """The same call explores the same deployment."""
        calls = [f"call-{number}" for number in range(500)]

        assert [explorer(call, ["a", "b", "c"], 0.5) for call in calls] == [
            explorer(call, ["a", "b", "c"], 0.5) for call in calls
        ]

    @pytest.mark.parametrize(("stale", "share"), [([], 0.5), (["a"], 0.0)])
    def test_nothing_to_explore(self, stale: list[str], share: float) -> None:
        """Neither without a stale deployment nor without a budget."""
        assert [""] * 50 == [explorer(f"call-{number}", stale, share) for number in range(50)]

    def test_chances_of_different_purposes_differ(self) -> None:
        """Or the same calls would always be the ones that are moved."""
        assert chance("call", "a") != chance("call", "b")


def timed(seconds: float, weight: float = 50.0) -> Figures:
    milliseconds = 1e3 * seconds
    return Figures(total=Spread(milliseconds, milliseconds, milliseconds), weight=weight)


class TestDeadline:
    def test_too_slow(self) -> None:
        """Who cannot make it is not tried, and the number says why."""
        found = timely([timed(2.0), timed(9.0)], 5.0)

        assert [True, False] == [one.passed for one in found]
        assert [2.0, 9.0] == pytest.approx([one.seconds for one in found])

    def test_unknown_ones_pass(self) -> None:
        """No figures, or too few, are no ground."""
        assert [True, True, True] == [one.passed for one in timely([UNKNOWN, timed(9.0, 1.0), timed(1.0)], 5.0)]

    def test_the_quickest_passes_when_nobody_makes_it(self) -> None:
        """It may be one of the quick calls."""
        assert [False, True] == [one.passed for one in timely([timed(9.0), timed(7.0)], 5.0)]

    def test_no_time_at_all(self) -> None:
        """With less than a tenth of a second left nothing is begun."""
        assert [False] == [one.passed for one in timely([timed(0.01)], 0.09)]

    def test_by_the_length_of_the_answer(self) -> None:
        """Where it is known how long the answer will be, its tokens are counted."""
        figures = timed(2.0)._replace(first_token=Spread(500.0, 500.0, 500.0), speed=Spread(100.0, 120.0, 150.0))

        assert 10.5 == pytest.approx(expected(figures, 1000))

    def test_first_token_time_is_shared(self) -> None:
        """An attempt leaves time for the ones that may follow."""
        assert [20.0, 60.0] == [first_token_seconds(60.0, left, 3) for left in (60.0, 600.0)]
