"""Budgets: of retries, of hedges, and of what a throttled deployment is sent."""

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from polyroute.router.health.hedge import Delays, HedgeBudget, HedgeRules
from polyroute.router.health.retry_budget import RetryBudget
from polyroute.router.health.scores import UNKNOWN, Figures, Spread
from polyroute.router.health.throttle import Throttle


class TestRetries:
    def test_a_few_are_free(self) -> None:
        """A model with little traffic may retry three times in ten seconds."""
        budget = RetryBudget()
        allowed = 0
        while budget.allows(100.0):
            budget.spend(100.0)
            allowed += 1

        assert 3 == allowed

    def test_a_fifth_is_paid_for(self) -> None:
        """A hundred calls pay for twenty retries."""
        budget = RetryBudget()
        for _ in range(100):
            budget.call(100.0)

        assert 20.0 == budget.balance(100.0)

    def test_deposits_expire(self) -> None:
        """What was paid ten seconds ago is gone, and so is what was spent."""
        budget = RetryBudget()
        for _ in range(100):
            budget.call(100.0)
        for _ in range(20):
            budget.spend(105.0)

        assert [0.0, -17.0, 3.0] == [budget.balance(now) for now in (105.0, 110.0, 115.0)]

    @pytest.mark.parametrize(
        ("active", "retrying", "allowed"), [(0, 2, True), (0, 3, False), (50, 9, True), (50, 10, False)]
    )
    def test_at_once(self, active: int, retrying: int, allowed: bool) -> None:
        """A fifth of what is under way may be retries, three in any case."""
        budget = RetryBudget()
        for _ in range(1000):
            budget.call(100.0)
        budget.active, budget.retrying = active, retrying

        assert allowed == budget.allows(100.0)

    @seed(7)
    @given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=300))
    def test_amplification(self, calls: list[tuple[float, bool]]) -> None:
        """Whatever fails when: no ten seconds see more retries than a fifth of their calls, or three."""
        budget, now = RetryBudget(), 100.0
        came: list[int] = []
        retried: list[int] = []
        for gap, fails in calls:
            now += gap
            budget.call(now)
            came.append(int(now))
            if fails and budget.allows(now):
                budget.spend(now)
                retried.append(int(now))
        for end in set(retried):
            inside = sum(end - 10 < second <= end for second in came)
            assert sum(end - 10 < second <= end for second in retried) <= max(3, 0.2 * inside)


class TestHedges:
    def test_an_idle_model_has_none(self) -> None:
        """There is no minimum: a hedge is paid for by fifty calls."""
        budget = HedgeBudget()
        for _ in range(49):
            budget.call()
        before = budget.spend()
        budget.call()

        assert [False, True, False] == [before, budget.spend(), budget.spend()]

    @seed(8)
    @given(st.lists(st.booleans(), max_size=2000))
    def test_two_of_a_hundred(self, slow: list[bool]) -> None:
        """However many calls are late."""
        budget = HedgeBudget()
        hedges = 0
        for late in slow:
            budget.call()
            hedges += late and budget.spend()

        assert hedges <= 0.02 * len(slow) + 1e-9

    def test_the_delay_is_of_prompts_of_that_size(self) -> None:
        """Long prompts take longer, and are given longer."""
        delays = Delays()
        for place in range(100):
            delays.add(100, 1000.0 + place)
            delays.add(50_000, 9000.0 + place)

        assert pytest.approx([1.098, 9.098], rel=0.03) == [delays.delay(size, UNKNOWN) for size in (100, 50_000)]

    def test_there_is_a_shortest_delay(self) -> None:
        """A hedge costs money: three tenths of a second are waited at least."""
        delays = Delays()
        for _ in range(100):
            delays.add(100, 20.0)

        assert 0.3 == delays.delay(100, UNKNOWN)

    def test_unless_known_by_size_by_all(self) -> None:
        """Sizes that nobody has seen go by the deployment's own figures, and without those there is no hedge."""
        figures = Figures(first_token=Spread(500.0, 1000.0, 2000.0), weight=50.0)
        delay = Delays(HedgeRules(delayed=0.99)).delay(100, figures)

        assert 2.0 == pytest.approx(delay)
        assert [None, None] == [Delays().delay(1, one) for one in (UNKNOWN, figures._replace(weight=1.0))]


class TestThrottle:
    def test_nothing_known(self) -> None:
        """A deployment that was never asked gets everything."""
        assert 0.0 == Throttle().share(100.0, None)

    @pytest.mark.parametrize(("good", "bad", "share"), [(50, 50, 0.0), (20, 80, 60 / 101), (0, 3, 3 / 4), (0, 99, 0.9)])
    def test_shares(self, good: int, bad: int, share: float) -> None:
        """Half accepted is borne; what is above that goes elsewhere, up to nine tenths."""
        throttle = Throttle()
        for _ in range(good):
            throttle.sent(100.0)
            throttle.accepted(100.0, 100.1)
        for _ in range(bad):
            throttle.sent(100.0)
            throttle.refused(100.0, 100.1)

        assert share == pytest.approx(throttle.share(101.0, None))

    def test_what_hangs_counts_once_it_is_overdue(self) -> None:
        """Requests without an answer are requests, but not before answers usually come."""
        throttle = Throttle()
        for _ in range(9):
            throttle.sent(100.0)

        assert [0.0, 0.9] == [throttle.share(now, 1.5) for now in (102.0, 104.1)]

    def test_two_minutes(self) -> None:
        """What is older is forgotten."""
        throttle = Throttle()
        for _ in range(20):
            throttle.sent(100.0)
            throttle.refused(100.0, 100.0)

        assert [0.9, 0.0] == [throttle.share(now, None) for now in (200.0, 221.0)]

    def test_cancelled_ones_say_nothing(self) -> None:
        """Neither as requests nor as waiting."""
        throttle = Throttle()
        for _ in range(20):
            throttle.sent(100.0)
            throttle.dropped(100.0, 130.0)

        assert 0.0 == throttle.share(190.0, 1.0)

    @seed(9)
    @given(
        st.lists(st.tuples(st.floats(0, 30), st.floats(0, 200), st.sampled_from(["accepted", "refused", "dropped"])))
    )
    def test_nothing_is_left_waiting(self, flights: list[tuple[float, float, str]]) -> None:
        """Whenever requests begin and end, at the end none waits and shares stay within their bounds."""
        throttle = Throttle()
        events: list[tuple[float, int, float, str]] = []
        now = 100.0
        for place, (gap, length, how) in enumerate(flights):
            now += gap
            events += [(now, place, now, "sent"), (now + length, place, now, how)]
        for at, _, began, how in sorted(events, key=lambda event: (event[0], event[3] != "sent")):
            if how == "sent":
                throttle.sent(at)
            else:
                getattr(throttle, how)(began, at)
            assert 0 <= throttle.share(at, 5.0) <= 0.9

        assert 0 == throttle.overdue(0.0, now + 500)
