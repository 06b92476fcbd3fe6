"""The bound of calls under way that moves: what a loop that keeps up allows, and what one that is late takes back."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.edge import pressure
from polyroute.edge.line import Criticality
from polyroute.edge.pressure import CUT, FIRST, LATE_SECONDS, LEAST, MOST, Pressure, Sampler
from polyroute.edge.turnstile import Turnstile
from tests.unit.edge.peers import Clock

LATE = 2 * LATE_SECONDS


def window(one: Pressure, lags: list[float], under_way: int, *, waiting: bool = False) -> int:
    """A window of some samples."""
    for lag in lags:
        one.saw(lag, under_way)
    return one.judged(waiting=waiting)


def test_a_bound_that_nobody_reaches_stays() -> None:
    """There is nothing to learn from it."""
    assert FIRST == window(Pressure(), [0.0] * 5, FIRST // 2)


def test_many_calls_that_cost_little_are_let_in_soon() -> None:
    """Two thousand streams: after three windows in which the loop was in time."""
    one = Pressure()

    assert [512, 1024, 2048] == [window(one, [0.01] * 5, one.most, waiting=True) for _ in range(3)]


def test_a_hiccup_changes_nothing_and_being_late_twice_does() -> None:
    """It is cut to a part of what was under way, and grows slowly from there."""
    one = Pressure()
    hiccup = window(one, [5.0, 0.01, 0.02], FIRST - 50)
    late = window(one, [LATE, LATE, 0.02], FIRST - 50)
    grown = window(one, [0.01] * 5, late, waiting=True)

    assert (FIRST, int((FIRST - 50) * CUT)) == (hiccup, late)
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
