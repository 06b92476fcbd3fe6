"""The bound of calls under way that moves: what a loop that keeps up allows, and what one that is late takes back."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.edge import pressure
from polyroute.edge.line import Criticality
from polyroute.edge.pressure import (
    CUT,
    FIRST,
    LATE_SECONDS,
    LEAST,
    MOST,
    SAMPLE_SECONDS,
    WINDOW_SECONDS,
    Pressure,
    Sampler,
)
from polyroute.edge.turnstile import Turnstile
from tests.unit.edge.peers import Clock

LATE = 2 * LATE_SECONDS


def window(one: Pressure, lags: list[float], under_way: int, *, waiting: bool = False, busy: float = 0.1) -> int:
    """A window of some samples; what the loop is late is its own work."""
    for lag in lags:
        one.saw(lag, lag, under_way)
    return one.judged(waiting=waiting, busy=busy)


def test_a_bound_that_nobody_reaches_stays() -> None:
    """There is nothing to learn from it."""
    assert FIRST == window(Pressure(), [0.0] * 5, FIRST // 2)


def test_many_calls_that_cost_little_are_let_in_soon() -> None:
    """Two thousand streams: after five windows in which the loop had nothing else to do."""
    one = Pressure()

    assert [128, 256, 512, 1024, 2048] == [window(one, [0.01] * 5, one.most, waiting=True) for _ in range(5)]


@pytest.mark.parametrize(("lag", "busy"), [(0.01, 0.6), (0.04, 0.1)])
def test_who_has_much_to_do_grows_slowly(lag: float, busy: float) -> None:
    """Twice as many calls would be too many, and each of them would last."""
    assert FIRST < window(Pressure(), [lag] * 5, FIRST, waiting=True, busy=busy) < FIRST * 1.1


def test_a_hiccup_changes_nothing_and_being_late_twice_does() -> None:
    """It is cut to a part of what was under way, and grows slowly from there."""
    one = Pressure(256)
    hiccup = window(one, [5.0, 0.01, 0.02], 200)
    late = window(one, [LATE, LATE, 0.02], 200)
    grown = window(one, [0.01] * 5, late, waiting=True)

    assert (256, int(200 * CUT)) == (hiccup, late)
    assert late < grown < late * 1.1


def test_a_loop_that_is_late_by_itself_closes_nothing() -> None:
    """Below the least bound it is not the calls."""
    one = Pressure()
    for _ in range(100):
        window(one, [1.0] * 5, one.most)
    few = one.most
    for _ in range(100):
        window(one, [1.0] * 5, 1)

    assert LEAST * CUT <= few <= LEAST
    assert few == one.most


@given(st.integers(40, 5000), st.integers(0, 3000))
def test_it_settles_around_what_the_loop_bears(capacity: int, extra: int) -> None:
    """Whatever that is, and however many calls come: the loop is late in few windows."""
    one, late, demand = Pressure(), 0, capacity + extra + 50
    for number in range(400):
        under_way = min(one.most, demand)
        lag = LATE if under_way > capacity else 0.0
        late += lag > 0 and number >= 100
        window(one, [lag] * 4, under_way, waiting=demand > under_way)

    assert late <= 300 * 0.35
    assert CUT * CUT * capacity - LEAST <= one.most <= min(MOST, 1.1 * capacity + 2)


async def test_who_waits_goes_on_when_the_bound_grows() -> None:
    """And nobody is put out when it shrinks: it binds those that come."""
    turnstile = Turnstile(1, 4, 5.0, Clock())
    first = await turnstile.enter("a", Criticality.DEFAULT)
    waiting = [asyncio.create_task(turnstile.enter(name, Criticality.DEFAULT)) for name in "bcd"]
    await asyncio.sleep(0)
    turnstile.resize(3)
    two = [await one for one in waiting[:2]]
    turnstile.resize(1)
    first.leave()
    two[0].leave()
    await asyncio.sleep(0)
    shrunk = (turnstile.under_way, turnstile.waiting)
    two[1].leave()
    (await waiting[2]).leave()

    assert ((1, 1), (0, 0)) == (shrunk, (turnstile.under_way, turnstile.waiting))


@pytest.mark.parametrize(("works", "bound"), [(1.0, int(20 * CUT)), (0.1, 20)])
async def test_what_others_do_is_not_the_calls(monkeypatch: pytest.MonkeyPatch, works: float, bound: int) -> None:
    """A loop that is late because the process has not had the processor: fewer calls would change nothing, nor more."""
    clock = Clock()

    async def late(_: float) -> None:
        if clock.at > 1000 + WINDOW_SECONDS:
            raise asyncio.CancelledError
        clock.advance(SAMPLE_SECONDS + LATE)

    monkeypatch.setattr(asyncio, "sleep", late)
    turnstile = Turnstile(32, 8, 5.0, clock)
    for _ in range(20):
        await turnstile.enter("a", Criticality.DEFAULT)
    one = Pressure(32)
    with contextlib.suppress(asyncio.CancelledError):
        await Sampler(turnstile, one, clock, lambda: clock.at * works).run()

    assert bound == one.most


async def test_the_loop_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is in time and calls wait, the bound grows."""
    monkeypatch.setattr(pressure, "SAMPLE_SECONDS", 0.0001)
    monkeypatch.setattr(pressure, "WINDOW_SECONDS", 0.001)
    clock = asyncio.get_running_loop().time
    turnstile = Turnstile(1, 8, 5.0, clock)
    sampler = asyncio.create_task(Sampler(turnstile, Pressure(1), clock).run())
    passes = await asyncio.gather(*(turnstile.enter("a", Criticality.DEFAULT) for _ in range(6)))
    sampler.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sampler

    assert 6 == len(passes) == turnstile.under_way
