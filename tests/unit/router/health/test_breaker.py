"""The breaker: when it opens, for how long, and how it closes again."""

from collections.abc import Callable

import pytest
from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from polyroute.router.health.breaker import Breaker, BreakerRules, Phase


def even() -> float:
    """Chance that leaves the jitter at nothing."""
    return 0.5


def waiting(count: int) -> Callable[[float, float], int]:
    """That many attempts are overdue, since anything was heard."""
    return lambda seconds, _: count if seconds < 8 else 0


def opened(now: float = 100.0) -> Breaker:
    breaker = Breaker(chance=even)
    for _ in range(5):
        breaker.failure(now)
    return breaker


def probed(breaker: Breaker, now: float, *, good: bool) -> None:
    assert breaker.claim("probe", now)
    assert breaker.begin("probe", now)
    breaker.release("probe")
    if good:
        breaker.success(now)
    else:
        breaker.failure(now)


class TestOpening:
    def test_failures_in_a_row(self) -> None:
        """Five failures without a success between them open it."""
        breaker = Breaker(chance=even)
        for _ in range(4):
            breaker.failure(100.0)
        before = breaker.phase
        breaker.failure(100.0)

        assert (Phase.CLOSED, Phase.OPEN, "failures in a row", 5.0) == (
            before,
            breaker.phase,
            breaker.reason,
            breaker.number,
        )

    def test_a_success_begins_the_row_anew(self) -> None:
        """Four failures, a success and four failures are no five in a row."""
        breaker = Breaker()
        for _ in range(2):
            for _ in range(4):
                breaker.failure(100.0)
            breaker.success(100.0)

        assert Phase.CLOSED is breaker.phase

    def test_half_failures_weigh_half(self) -> None:
        """A vendor that says it is busy is given twice as many tries."""
        breaker = Breaker()
        for _ in range(9):
            breaker.failure(100.0, 0.5)
        before = breaker.phase
        breaker.failure(100.0, 0.5)

        assert (Phase.CLOSED, Phase.OPEN) == (before, breaker.phase)

    @pytest.mark.parametrize(("calls", "phase"), [(18, Phase.CLOSED), (20, Phase.OPEN)])
    def test_half_of_at_least_twenty(self, calls: int, phase: Phase) -> None:
        """Half of the calls failing opens it once there are twenty."""
        breaker = Breaker()
        for _ in range(calls // 2):
            breaker.success(100.0)
            breaker.failure(100.0)

        assert phase is breaker.phase

    def test_what_is_old_does_not_count(self) -> None:
        """Failures of more than ten seconds ago have left the window."""
        breaker = Breaker()
        for _ in range(9):
            breaker.failure(100.0)
            breaker.success(100.0)
        for _ in range(9):
            breaker.success(110.5)
            breaker.failure(110.5)

        assert (18, 9.0) == breaker.window(110.5)
        assert Phase.CLOSED is breaker.phase

    def test_silence(self) -> None:
        """Five overdue attempts and nothing heard since open it, though none of them has failed yet."""
        breaker = Breaker()
        breaker.waited(110.0, 1.0, waiting(4), heard=100.0)
        before = breaker.phase
        breaker.waited(110.0, 1.0, waiting(5), heard=100.0)

        assert (Phase.CLOSED, Phase.OPEN, "silent") == (before, breaker.phase, breaker.reason)

    def test_who_waited_before_is_no_silence(self) -> None:
        """What was lost, such as the calls of a process that is gone, is counted once and not after every pause."""
        breaker = Breaker()
        breaker.waited(110.0, 1.0, lambda *_: 50, heard=100.0)

        assert Phase.CLOSED is breaker.phase

    @pytest.mark.parametrize(("usual", "heard"), [(None, 0.0), (6.0, 100.0), (1.0, 107.0)])
    def test_no_silence(self, usual: float | None, heard: float) -> None:
        """Nothing is overdue where nobody knows how long answers take, they take longer, or one has just come."""
        breaker = Breaker()
        breaker.waited(110.0, usual, waiting(50), heard)

        assert Phase.CLOSED is breaker.phase


class TestEjection:
    @pytest.mark.parametrize(("chance", "seconds"), [(0.0, 24.0), (0.5, 30.0), (1.0, 36.0)])
    def test_jitter(self, chance: float, seconds: float) -> None:
        """Ejections are spread by a fifth, so that many routers do not come back together."""
        breaker = Breaker(chance=lambda: chance)
        breaker.trip(100.0, "test", 1.0)

        assert 100.0 + seconds == pytest.approx(breaker.until)

    def test_grows_up_to_a_bound(self) -> None:
        """Each ejection is thirty seconds longer than the one before, up to five minutes."""
        breaker, lengths, now = opened(), [], 100.0
        for _ in range(12):
            lengths.append(breaker.until - now)
            now = breaker.until
            breaker.tick(now)
            probed(breaker, now, good=False)

        assert [30.0 * min(step, 10) for step in range(1, 13)] == lengths

    def test_shrinks_with_healthy_time(self) -> None:
        """Ten healthy seconds take back one step; what was ejected is never less than one again."""
        breaker = opened()
        breaker.tick(130.0)
        probed(breaker, 130.0, good=False)
        breaker.tick(190.0)
        for _ in range(3):
            probed(breaker, 190.0, good=True)

        assert [2, 2, 1, 0, 0] == [breaker.level(190.0 + passed) for passed in (0, 9.9, 10, 20, 500)]

    def test_what_began_before_has_another_epoch(self) -> None:
        """Whoever remembers the epoch of its beginning can tell."""
        assert (0, 1) == (Breaker().epoch, opened().epoch)

    def test_failures_do_not_prolong_it(self) -> None:
        """Calls that are let through to an open deployment, for want of another, change nothing when they fail."""
        breaker = opened()
        until = breaker.until
        for _ in range(20):
            breaker.failure(110.0)

        assert (until, 1) == (breaker.until, breaker.epoch)

    def test_three_successes_close_it_even_while_open(self) -> None:
        """When all deployments are bad, calls still go out: what works again is well again."""
        breaker = opened()
        for _ in range(3):
            breaker.success(110.0)

        assert Phase.CLOSED is breaker.phase


class TestHalfOpen:
    def test_one_probe_at_a_time(self) -> None:
        """While one call probes, no other one does."""
        breaker = opened()
        breaker.tick(130.0)

        assert [True, False] == [breaker.claim("first", 130.0), breaker.claim("second", 130.0)]
        breaker.begin("first", 131.0)
        assert not breaker.claim("second", 200.0)
        breaker.release("first")
        assert breaker.claim("second", 200.0)

    def test_a_claim_that_never_begins_falls_back(self) -> None:
        """A caller who leaves between the decision and the attempt does not keep the deployment out."""
        breaker = opened()
        breaker.tick(130.0)
        breaker.claim("first", 130.0)

        assert [False, True] == [breaker.claim("second", 134.9), breaker.claim("third", 135.0)]

    def test_a_lost_probe_falls_back(self) -> None:
        """A probe of whose end nobody ever hears does not keep the deployment out for ever."""
        breaker = opened()
        breaker.tick(130.0)
        breaker.claim("first", 130.0)
        breaker.begin("first", 130.0)

        assert [False, True] == [breaker.free(219.0), breaker.free(220.0)]

    def test_three_good_probes_close_it(self) -> None:
        """Two are not enough."""
        breaker = opened()
        breaker.tick(130.0)
        phases = []
        for _ in range(3):
            probed(breaker, 131.0, good=True)
            phases.append(breaker.phase)

        assert [Phase.HALF_OPEN, Phase.HALF_OPEN, Phase.CLOSED] == phases

    def test_a_probe_that_hangs_is_a_bad_one(self) -> None:
        """It need not wait for the whole time that an attempt is given."""
        breaker = opened()
        breaker.tick(130.0)
        breaker.claim("probe", 130.0)
        breaker.begin("probe", 130.0)
        breaker.waited(133.0, 1.0, waiting(1), heard=130.0)
        before = breaker.phase
        breaker.waited(133.1, 1.0, waiting(1), heard=130.0)

        assert (Phase.HALF_OPEN, Phase.OPEN, "probe not answered") == (before, breaker.phase, breaker.reason)

    def test_a_probe_that_is_answered_may_take_its_time(self) -> None:
        """A long answer is a good sign."""
        breaker = opened()
        breaker.tick(130.0)
        breaker.claim("probe", 130.0)
        breaker.begin("probe", 130.0)
        breaker.answered("probe")
        breaker.waited(180.0, 1.0, waiting(1), heard=131.0)

        assert Phase.HALF_OPEN is breaker.phase

    def test_asked_too_early(self) -> None:
        """A bad probe in an ejection that ended early brings back the rest of it, not a longer one."""
        breaker = opened()
        until = breaker.until
        breaker.alive(105.0)
        half = breaker.phase
        probed(breaker, 106.0, good=False)

        assert (Phase.HALF_OPEN, Phase.OPEN, until, 1) == (half, breaker.phase, breaker.until, breaker.level(106.0))

    def test_traffic_comes_back_slowly(self) -> None:
        """A tenth at once, all of it after half a minute."""
        breaker = opened()
        breaker.tick(130.0)
        for _ in range(3):
            probed(breaker, 130.0, good=True)

        assert pytest.approx([0.1, 0.55, 1.0, 1.0]) == [breaker.ramp(130.0 + passed) for passed in (0, 15, 30, 99)]

    def test_one_that_never_opened_gets_all(self) -> None:
        """Slow start is for those that come back."""
        assert 1.0 == Breaker().ramp(5.0)


class Life(RuleBasedStateMachine):
    """A breaker beside the plainest account of what it has seen: a list of calls."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.breaker = Breaker(BreakerRules(), chance=even)
        self.seen: list[tuple[int, float]] = []
        self.epoch = 0

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 4.0, 9.9, 31.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.breaker.tick(self.now)

    @rule(count=st.integers(1, 12))
    def successes(self, count: int) -> None:
        for _ in range(count):
            was = self.breaker.phase
            self.breaker.success(self.now)
            self.account(was, 0.0)

    @rule(count=st.integers(1, 12), weight=st.sampled_from([0.5, 1.0]))
    def failures(self, count: int, weight: float) -> None:
        for _ in range(count):
            was = self.breaker.phase
            self.breaker.failure(self.now, weight)
            self.account(was, weight)

    def account(self, was: Phase, weight: float) -> None:
        if was is Phase.CLOSED:
            self.seen.append((int(self.now), weight))
        elif self.breaker.phase is Phase.CLOSED:
            self.seen.clear()  # what was before it opened is forgotten

    @rule()
    def alive(self) -> None:
        self.breaker.alive(self.now)

    @rule(name=st.sampled_from("abc"), began=st.booleans())
    def probes(self, name: str, began: bool) -> None:
        free = self.breaker.free(self.now)
        claimed = self.breaker.claim(name, self.now)
        assert free == claimed
        if claimed and began:
            assert self.breaker.begin(name, self.now)
            assert not self.breaker.claim("another", self.now)

    @rule(name=st.sampled_from("abc"))
    def release(self, name: str) -> None:
        self.breaker.release(name)

    @invariant()
    def counts_what_is_in_the_window(self) -> None:
        recent = [weight for second, weight in self.seen if second > int(self.now) - 10]

        assert (len(recent), sum(recent)) == self.breaker.window(self.now)

    @invariant()
    def is_not_closed_with_too_many_failures(self) -> None:
        calls, bad = self.breaker.window(self.now)
        if self.breaker.phase is Phase.CLOSED and self.seen and self.seen[-1][1]:
            assert calls < 20 or bad < calls / 2 or self.seen[-1][0] != int(self.now)

    @invariant()
    def ejections_end(self) -> None:
        assert self.breaker.until <= self.now + 300.0

    @invariant()
    def epochs_only_grow(self) -> None:
        assert self.epoch <= self.breaker.epoch
        self.epoch = self.breaker.epoch


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLife = seed(20261122)(Life.TestCase)
