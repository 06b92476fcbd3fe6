"""Shares of limits: what all edges hold of one together, and what becomes of it."""

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.rates.leases import FRESH_SECONDS, Leases, Want
from polyroute.auth.rates.limits import (
    CATALOG,
    SEEN_SECONDS,
    SLOT_SECONDS,
    Claim,
    Kind,
    Limit,
    LocalCounters,
    Place,
    Share,
)
from polyroute.mesh.errors import MeshError
from polyroute.mesh.gcra import MINUTE, SECOND

REQUESTS = Limit(Place("key_1", Kind.REQUESTS), 60, 10)
TOKENS = Limit(Place("prj_1", Kind.TOKENS), 6000, 1000)
CALLS = Limit(Place("acc_1", Kind.CONCURRENCY), 10)


class Nanos:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.at = 10**15

    def __call__(self) -> int:
        return self.at


async def no_common() -> list[Limit]:
    """Nothing binds everybody."""
    return []


async def lease(counters: LocalCounters, holder: str, *claims: Claim) -> list[int]:
    """What each claim gets."""
    return [share.granted for share in await counters.lease(holder, claims)]


async def test_all_of_a_call_or_nothing() -> None:
    """When one limit is reached, nothing is taken from the others."""
    counters = LocalCounters(Nanos())
    assert [10] == await lease(counters, "e", Claim(REQUESTS, 10, 10))
    both = await counters.lease("e", [Claim(TOKENS, 500, 500), Claim(REQUESTS, 1, 1)])

    assert [0, 0] == [share.granted for share in both]
    assert (None, 1.0) == (both[0].retry_after or None, both[1].retry_after)
    assert 1000 == both[0].remaining


async def test_share_leaves_something_for_the_others() -> None:
    """What is only wished for is cut; what is needed is not."""
    counters = LocalCounters(Nanos())

    assert [5] == await lease(counters, "a", Claim(REQUESTS, 0, 100))
    assert [1 + 4 // 3] == await lease(counters, "b", Claim(REQUESTS, 1, 100))


async def test_unused_units_come_back() -> None:
    """With the next claim."""
    counters = LocalCounters(Nanos())
    await lease(counters, "a", Claim(REQUESTS, 10, 10))

    assert [0] == await lease(counters, "b", Claim(REQUESTS, 1, 1))
    assert [0] == await lease(counters, "a", Claim(REQUESTS, 0, 0, returned=4))
    assert [4] == await lease(counters, "b", Claim(REQUESTS, 4, 4))


async def test_concurrency_is_shared_and_said_in_all() -> None:
    """A claim replaces the one before of the same edge."""
    counters = LocalCounters(Nanos())

    assert [6] == await lease(counters, "a", Claim(CALLS, 6, 6))
    assert [4] == await lease(counters, "b", Claim(CALLS, 5, 9))
    assert [2] == await lease(counters, "a", Claim(CALLS, 2, 2))
    assert [8] == await lease(counters, "b", Claim(CALLS, 8, 8))


async def test_concurrency_of_an_edge_that_died_ends() -> None:
    """When its share is not renewed."""
    clock = Nanos()
    counters = LocalCounters(clock)
    await lease(counters, "a", Claim(CALLS, 10, 10))
    refused = (await counters.lease("b", [Claim(CALLS, 1, 1)]))[0]
    clock.at += SLOT_SECONDS * SECOND

    assert (0, 1.0) == (refused.granted, refused.retry_after)
    assert [1] == await lease(counters, "b", Claim(CALLS, 1, 1))


async def test_edges_that_are_gone_do_not_count_as_sharing() -> None:
    """After a minute without a claim."""
    clock = Nanos()
    counters = LocalCounters(clock)
    await lease(counters, "a", Claim(REQUESTS, 0, 0))
    both = (await counters.lease("b", [Claim(REQUESTS, 0, 0)]))[0].holders
    clock.at += (SEEN_SECONDS + 1) * SECOND

    assert (2, 1) == (both, (await counters.lease("b", [Claim(REQUESTS, 0, 0)]))[0].holders)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.integers(0, 20), st.integers(0, 2 * SECOND)),
        max_size=80,
    )
)
async def test_edges_together_never_exceed_a_limit(steps: Sequence[tuple[str, int, int, int]]) -> None:
    """Whatever three edges ask for, and whenever."""
    clock = Nanos()
    counters, begun, taken = LocalCounters(clock), clock.at, 0
    held: dict[str, int] = {}
    for holder, needed, wanted, pause in steps:
        clock.at += pause
        units, calls = await counters.lease(
            holder, [Claim(REQUESTS, needed, max(needed, wanted)), Claim(CALLS, needed, max(needed, wanted))]
        )
        taken += units.granted
        held[holder] = calls.granted

        assert taken * MINUTE <= REQUESTS.burst * MINUTE + REQUESTS.amount * (clock.at - begun) + MINUTE
        assert sum(held.values()) <= CALLS.amount
        assert units.granted in (0, *range(needed, 61))


async def test_limits_are_found_once_and_again_when_they_change() -> None:
    """A limit that was lifted binds nobody."""
    limits: dict[Place, Limit] = {REQUESTS.place: REQUESTS}
    asked: list[Place] = []

    async def find(place: Place) -> Limit | None:
        asked.append(place)
        return limits.get(place)

    leases = Leases(LocalCounters(Nanos()), find, no_common)

    async def wanted() -> list[Share]:
        return await leases.lease("e", [Want(REQUESTS.place, 10, 10), Want(TOKENS.place, 7, 9)])

    first = await wanted()
    second = await wanted()
    del limits[REQUESTS.place]
    leases.forget("key_1")
    third = await wanted()

    assert [[10, 9], [0, 9], [10, 9]] == [[share.granted for share in shares] for shares in (first, second, third)]
    assert 3 == len(asked)


async def test_rates_are_not_taken_when_there_is_no_room_for_the_call() -> None:
    """All or nothing, of calls at once as of rates."""
    counters = LocalCounters(Nanos())
    await lease(counters, "a", Claim(CALLS, 10, 10))

    assert [0, 0] == await lease(counters, "b", Claim(REQUESTS, 1, 1), Claim(CALLS, 1, 1))
    assert [10] == await lease(counters, "b", Claim(REQUESTS, 10, 10))


async def test_limit_that_another_auth_changed_is_learnt_of() -> None:
    """Within seconds, without a call that waits for it; while the database is away, as it was."""
    clock, amounts, asked = [0.0], [10], 0

    async def find(place: Place) -> Limit | None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        if not amounts:
            raise MeshError(errors_pb2.REASON_SERVICE_UNAVAILABLE, "away")
        return Limit(place, amounts[0])

    leases = Leases(LocalCounters(Nanos()), find, no_common, lambda: clock[0])

    async def granted() -> int:
        [share] = await leases.lease("e", [Want(CALLS.place, 20, 20)])
        return share.granted

    first = await granted()
    amounts[0] = 15
    second = await granted()
    clock[0] += FRESH_SECONDS
    third = await granted()
    await asyncio.sleep(0.01)
    fourth = await granted()
    amounts.clear()
    clock[0] += FRESH_SECONDS
    fifth = await granted()
    await asyncio.sleep(0.01)
    await leases.close()

    assert [10, 10, 10, 15, 15, 15] == [first, second, third, fourth, fifth, await granted()]
    assert 3 == asked


async def test_limit_of_the_catalog_comes_with_the_claim() -> None:
    """Auth has no catalog; without an amount it binds nobody."""

    async def find(place: Place) -> Limit | None:
        raise AssertionError

    leases = Leases(LocalCounters(Nanos()), find, no_common)
    place = Place(CATALOG, Kind.CONCURRENCY, "a/x")
    shares = [(await leases.lease("e", [Want(place, 5, 5, amount=amount)]))[0].granted for amount in (3, 0)]

    assert [3, 5] == shares
