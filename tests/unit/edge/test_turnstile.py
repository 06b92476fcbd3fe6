"""Calls that are let in, wait, and are turned away."""

import asyncio
import contextlib
import time

import pytest

from polyroute.api.auth.v1 import auth_pb2
from polyroute.api.auth.v1.auth_pb2 import KeyScope, Verdict
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.line import Criticality
from polyroute.edge.turnstile import LONGEST_RETRY, Turnstile, criticality_of
from polyroute.mesh.errors import MeshError
from tests.unit.edge.peers import Clock

CRITICAL, DEFAULT, SHEDDABLE = Criticality


@pytest.fixture
def clock() -> Clock:
    """Stands still."""
    return Clock()


async def refused(call: object) -> MeshError:
    """What a call is refused with."""
    with pytest.raises(MeshError) as caught:
        await call  # type: ignore[misc] # an awaitable
    return caught.value


async def settled() -> None:
    """Everything that can go on has gone on."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_call_waits_for_its_turn(clock: Clock) -> None:
    """And is under way from then on, until it leaves: once."""
    turnstile = Turnstile(1, 4, 5.0, clock)
    first = await turnstile.enter("a", DEFAULT)
    waiting = asyncio.create_task(turnstile.enter("b", DEFAULT))
    await settled()
    before = turnstile.under_way, turnstile.waiting
    first.leave()
    first.leave()
    second = await waiting
    between = turnstile.under_way, turnstile.waiting
    second.leave()

    assert [(1, 1), (1, 0), (0, 0)] == [before, between, (turnstile.under_way, turnstile.waiting)]


async def test_who_waits_too_long_is_told_when_to_come_back(clock: Clock) -> None:
    """By the pace at which calls end."""
    turnstile = Turnstile(2, 4, 0.01, clock)
    one, _two = [await turnstile.enter("a", DEFAULT) for _ in range(2)]
    stuck = await refused(turnstile.enter("a", DEFAULT))
    third = asyncio.create_task(turnstile.enter("a", DEFAULT))
    await settled()
    clock.advance(4)
    one.leave()
    await third
    paced = await refused(turnstile.enter("a", SHEDDABLE, patience=0))

    assert (pb.REASON_OVERLOADED, "concurrency") == (stuck.reason, stuck.metadata["cause"])
    assert LONGEST_RETRY == stuck.retry_after
    assert 4.0 == paced.retry_after
    assert {CRITICAL: 0, DEFAULT: 1, SHEDDABLE: 1} == turnstile.shed
    assert (2, 0) == (turnstile.under_way, turnstile.waiting)


async def test_critical_call_takes_the_place_of_one_that_is_sheddable(clock: Clock) -> None:
    """Which is told at once."""
    turnstile = Turnstile(1, 1, 5.0, clock)
    first = await turnstile.enter("a", DEFAULT)
    loser = asyncio.create_task(turnstile.enter("a", SHEDDABLE))
    await settled()
    winner = asyncio.create_task(turnstile.enter("b", CRITICAL))
    error = await refused(loser)
    first.leave()
    (await winner).leave()

    assert "sheddable" == error.metadata["criticality"]
    assert (0, 0) == (turnstile.under_way, turnstile.waiting)


async def test_caller_that_leaves_while_it_waits_leaves_no_trace(clock: Clock) -> None:
    """Before its turn, and at the very moment of it."""
    turnstile = Turnstile(1, 4, 5.0, clock)
    for turn_first in (False, True):
        first = await turnstile.enter("a", DEFAULT)
        waiting = asyncio.create_task(turnstile.enter("b", DEFAULT))
        await settled()
        if turn_first:
            first.leave()
            waiting.cancel()
        else:
            waiting.cancel()
            first.leave()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        await settled()

        assert (0, 0) == (turnstile.under_way, turnstile.waiting)


async def test_turn_that_comes_with_the_end_of_patience(clock: Clock) -> None:
    """Counts: the place is not lost."""
    turnstile = Turnstile(1, 4, 0.01, clock)
    first = await turnstile.enter("a", DEFAULT)
    waiting = asyncio.create_task(turnstile.enter("b", DEFAULT))
    await settled()
    asyncio.get_running_loop().call_later(0.01, first.leave)
    time.sleep(0.02)  # noqa: ASYNC251 - both are due in one round of the loop
    with contextlib.suppress(MeshError):
        (await waiting).leave()

    assert (0, 0) == (turnstile.under_way, turnstile.waiting)


async def test_without_a_bound_nothing_is_counted(clock: Clock) -> None:
    """Nobody waits."""
    turnstile = Turnstile(0, 0, 5.0, clock)
    passes = [await turnstile.enter("a", SHEDDABLE) for _ in range(100)]
    for one in passes:
        one.leave()

    assert (0, 0) == (turnstile.under_way, turnstile.waiting)


async def test_entering_costs_microseconds(clock: Clock) -> None:
    """Without a bound, far from it and near it; the best of some rounds, for other work on the machine."""
    for most, held in ((0, 0), (1000, 0), (1000, 900)):
        turnstile = Turnstile(most, most, 5.0, clock)
        for number in range(held):
            await turnstile.enter(f"t{number % 50}", DEFAULT)
        best = 1.0
        for _ in range(20):
            began = time.perf_counter()
            for _ in range(500):
                (await turnstile.enter("a", DEFAULT)).leave()
            best = min(best, (time.perf_counter() - began) / 500)

        assert best < 15e-6  # 0.3, 2.9 and 4.2 where nothing else runs


def test_class_is_what_the_call_says_up_to_what_its_key_may_claim() -> None:
    """Work that costs nothing never stands before work that is paid for."""
    plain = Verdict()
    included, free = (
        Verdict(scope=KeyScope(spend_class=one)) for one in (auth_pb2.SPEND_CLASS_INCLUDED, auth_pb2.SPEND_CLASS_FREE)
    )

    assert [CRITICAL, DEFAULT, SHEDDABLE, DEFAULT, DEFAULT] == [
        criticality_of(plain, claimed) for claimed in ("critical", "Default", "SHEDDABLE", "", "urgent")
    ]
    assert [DEFAULT, SHEDDABLE] == [criticality_of(included, claimed) for claimed in ("critical", "sheddable")]
    assert [SHEDDABLE, SHEDDABLE] == [criticality_of(free, claimed) for claimed in ("critical", "")]
    assert CRITICAL == criticality_of(Verdict(scope=KeyScope(routes=["/v1/*"])), "critical")
