"""The arithmetic of rates."""

from hypothesis import given
from hypothesis import strategies as st

from polyroute.mesh.gcra import MINUTE, SECOND, Rate

RATES = st.builds(Rate, st.integers(1, 10**6), st.integers(0, 10**6))
STEPS = st.lists(st.tuples(st.integers(0, 20 * SECOND), st.integers(1, 50)), max_size=60)


def test_burst_comes_at_once_and_then_one_by_one() -> None:
    """Six a minute with a burst of two: two now, the third after ten seconds."""
    rate, arrival, now = Rate(6, 2), 0, 10**15
    for _ in range(2):
        assert rate.admits(arrival, now, 1)
        arrival = rate.taken(arrival, now, 1)

    assert 0 == rate.available(arrival, now)
    assert 10 * SECOND == rate.wait(arrival, now, 1)
    assert rate.admits(arrival, now + 10 * SECOND, 1)
    assert 20 * SECOND == rate.reset(arrival, now)


def test_unset_burst_is_ten_seconds_worth() -> None:
    """And never less than one."""
    assert (100, 1) == (Rate(600).depth, Rate(3).depth)


def test_nothing_a_minute_is_nothing() -> None:
    """Ever."""
    assert not Rate(0).admits(0, 10**15, 1)
    assert (0, None) == (Rate(0).available(0, 10**15), Rate(0).wait(0, 10**15, 1))


def test_more_than_a_burst_is_slow_and_not_impossible() -> None:
    """It passes when nothing is owed, and is then owed in full."""
    rate, now = Rate(60, 10), 10**15
    arrival = rate.taken(0, now, 40)

    assert rate.admits(0, now, 40)
    assert 40 * SECOND == rate.reset(arrival, now)
    assert 40 * SECOND == rate.wait(arrival, now, 40)
    assert 31 * SECOND == rate.wait(arrival, now, 1)


@given(rate=RATES, steps=STEPS)
def test_no_sequence_gets_more_than_the_rate(rate: Rate, steps: list[tuple[int, int]]) -> None:
    """In any time, at most a burst and what the rate allows in that time; one oversized unit may be owed beyond."""
    now, arrival, begun, admitted = 10**15, 0, 10**15, 0
    for pause, units in steps:
        now += pause
        units = min(units, rate.depth)
        if rate.admits(arrival, now, units):
            arrival = rate.taken(arrival, now, units)
            admitted += units
            assert admitted * MINUTE <= rate.depth * MINUTE + rate.amount * (now - begun) + MINUTE


@given(rate=RATES, steps=STEPS)
def test_waiting_as_told_is_enough_and_no_longer_than_needed(rate: Rate, steps: list[tuple[int, int]]) -> None:
    """One nanosecond earlier it is refused."""
    now, arrival = 10**15, 0
    for pause, units in steps:
        now += pause
        wait = rate.wait(arrival, now, units)
        assert wait is not None
        assert rate.admits(arrival, now + wait, units)
        assert wait == 0 or not rate.admits(arrival, now + wait - 1, units)
        arrival = rate.taken(arrival, now, units)


@given(rate=RATES, units=st.integers(1, 1000))
def test_what_comes_back_never_makes_more_than_was_taken(rate: Rate, units: int) -> None:
    """Rounding is against the caller, by less than a nanosecond."""
    now = 10**15
    arrival = rate.returned(rate.taken(now, now, units), units)

    assert now <= arrival <= now + 1
