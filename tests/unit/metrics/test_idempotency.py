"""Entries: taken by one call, given back when it is lost, kept for a day, within their bounds."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from polyroute.api.idempotency.v1.idempotency_pb2 import (
    ENTRY_STATE_CLAIMED,
    ENTRY_STATE_DONE,
    ENTRY_STATE_MISMATCH,
    ENTRY_STATE_NOT_KEPT,
    ENTRY_STATE_RUNNING,
    Answer,
)
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import Location, locate
from polyroute.metrics.idempotency import schema
from polyroute.metrics.idempotency.batches import Batches
from polyroute.metrics.idempotency.entries import KEPT_SECONDS
from polyroute.metrics.idempotency.migrations.history import HISTORY
from polyroute.metrics.idempotency.store import Store
from tests.databases import prepare
from tests.postgres import Server

ENTRY, OTHER = b"e" * 32, b"o" * 32
PRINT = b"f" * 32
LEASE = 30.0
ANSWER = Answer(status=200, content_type="application/json", sealed=b"sealed")


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The one clock of leases."""
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncGenerator[Store]:
    """An empty store that keeps 100 bytes of answers."""
    async with Store.open(locate("idempotency", prepare(tmp_path)), clock, most_bytes=100) as opened:
        yield opened


async def test_one_of_many_calls_gets_an_entry(store: Store) -> None:
    """The others hear that it is under way."""
    found = await asyncio.gather(*(store.claim(ENTRY, PRINT, f"c{number}", LEASE) for number in range(50)))

    states = [one.state for one in found]
    assert (1, 49) == (states.count(ENTRY_STATE_CLAIMED), states.count(ENTRY_STATE_RUNNING))


async def test_claim_that_is_repeated_stands(store: Store) -> None:
    """The answer to the first one was lost on the way."""
    await store.claim(ENTRY, PRINT, "c1", LEASE)

    assert ENTRY_STATE_CLAIMED == (await store.claim(ENTRY, PRINT, "c1", LEASE)).state


async def test_answer_is_given_again(store: Store) -> None:
    """With the call that it was the answer of."""
    await store.claim(ENTRY, PRINT, "c1", LEASE)
    assert await store.keep(ENTRY, "c1", ANSWER)

    found = await store.claim(ENTRY, PRINT, "c2", LEASE)

    assert (ENTRY_STATE_DONE, "c1", ANSWER) == (found.state, found.claim, found.answer)


async def test_another_request_is_told_so(store: Store) -> None:
    """While the first is under way, and when it is over."""
    await store.claim(ENTRY, PRINT, "c1", LEASE)
    assert ENTRY_STATE_MISMATCH == (await store.claim(ENTRY, b"g" * 32, "c2", LEASE)).state

    await store.keep(ENTRY, "c1", ANSWER)

    assert ENTRY_STATE_MISMATCH == (await store.claim(ENTRY, b"g" * 32, "c2", LEASE)).state


async def test_answer_too_large_to_keep_is_remembered_as_given(store: Store) -> None:
    """No second call is made for it."""
    await store.claim(ENTRY, PRINT, "c1", LEASE)
    await store.keep(ENTRY, "c1", None)

    assert ENTRY_STATE_NOT_KEPT == (await store.claim(ENTRY, PRINT, "c2", LEASE)).state


async def test_released_entry_is_free_at_once(store: Store) -> None:
    """For the same request and for any other."""
    await store.claim(ENTRY, PRINT, "c1", LEASE)
    await store.release(ENTRY, "c1")

    assert ENTRY_STATE_CLAIMED == (await store.claim(ENTRY, b"g" * 32, "c2", LEASE)).state


async def test_lost_call_gives_its_entry_back(store: Store, clock: Clock) -> None:
    """When its lease has lapsed, and not before; what it says later changes nothing."""
    await store.claim(ENTRY, PRINT, "c1", LEASE)
    clock.now += LEASE - 0.001
    assert ENTRY_STATE_RUNNING == (await store.claim(ENTRY, PRINT, "c2", LEASE)).state

    clock.now += 0.001

    assert ENTRY_STATE_CLAIMED == (await store.claim(ENTRY, PRINT, "c2", LEASE)).state
    assert not await store.keep(ENTRY, "c1", ANSWER)
    await store.release(ENTRY, "c1")
    assert ENTRY_STATE_RUNNING == (await store.claim(ENTRY, PRINT, "c3", LEASE)).state


async def test_call_under_way_keeps_its_entry(store: Store, clock: Clock) -> None:
    """As long as its edge prolongs the lease."""
    await store.claim(ENTRY, PRINT, "c1", LEASE)
    await store.claim(OTHER, PRINT, "c9", LEASE)
    clock.now += LEASE / 2
    await store.renew([(ENTRY, "c1"), (OTHER, "somebody else")], LEASE)

    clock.now += LEASE / 2

    assert ENTRY_STATE_RUNNING == (await store.claim(ENTRY, PRINT, "c2", LEASE)).state
    assert ENTRY_STATE_CLAIMED == (await store.claim(OTHER, PRINT, "c2", LEASE)).state


async def test_entry_lives_for_a_day(store: Store, clock: Clock) -> None:
    """Then the key may be used anew, swept or not."""
    for entry in (ENTRY, OTHER):
        await store.claim(entry, PRINT, "c1", LEASE)
        await store.keep(entry, "c1", ANSWER)
    clock.now += KEPT_SECONDS - 1
    await store.sweep()
    assert ENTRY_STATE_DONE == (await store.claim(ENTRY, PRINT, "c2", LEASE)).state

    clock.now += 1

    assert ENTRY_STATE_CLAIMED == (await store.claim(ENTRY, PRINT, "c2", LEASE)).state
    await store.sweep()
    assert ENTRY_STATE_CLAIMED == (await store.claim(OTHER, b"g" * 32, "c2", LEASE)).state


async def test_oldest_answers_make_room(store: Store, clock: Clock) -> None:
    """They are remembered as given, so that no call is made twice for want of room."""
    names = [bytes([number]) * 32 for number in range(5)]
    for name in names:
        clock.now += 1
        await store.claim(name, PRINT, "c1", LEASE)
        await store.keep(name, "c1", Answer(status=200, sealed=b"x" * 30))

    await store.sweep()

    states = [(await store.claim(name, PRINT, "c2", LEASE)).state for name in names]
    assert [ENTRY_STATE_NOT_KEPT] * 2 + [ENTRY_STATE_DONE] * 3 == states


async def test_changes_of_one_moment_are_made_in_their_order(store: Store) -> None:
    """In one transaction: an entry that is given back is the next one's."""
    found = await asyncio.gather(
        store.claim(ENTRY, PRINT, "c1", LEASE),
        store.claim(ENTRY, PRINT, "c2", LEASE),
        store.release(ENTRY, "c1"),
        store.claim(ENTRY, PRINT, "c3", LEASE),
        store.keep(ENTRY, "c3", ANSWER),
        store.claim(ENTRY, PRINT, "c4", LEASE),
    )

    claimed, running, _, again, kept, done = found
    assert (ENTRY_STATE_CLAIMED, ENTRY_STATE_RUNNING) == (claimed.state, running.state)
    assert (ENTRY_STATE_CLAIMED, True) == (again.state, kept)
    assert (ENTRY_STATE_DONE, "c3", ANSWER) == (done.state, done.claim, done.answer)


async def test_batch_that_fails_is_told_to_each_of_its_callers() -> None:
    """What waits behind it is done all the same, and a caller that left is not missed."""
    done: list[list[int]] = []

    def work(pieces: Sequence[int]) -> list[int]:
        done.append(list(pieces))
        if 1 in pieces:
            raise ValueError("no disk")
        return [10 * piece for piece in pieces]

    batches = Batches(work, most=2)
    waiting = [asyncio.ensure_future(batches.run(piece)) for piece in range(5)]
    await asyncio.sleep(0)
    waiting[4].cancel()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    await batches.close()

    assert [[0, 1], [2, 3], [4]] == done
    assert [ValueError, ValueError, int, int, asyncio.CancelledError] == [type(one) for one in outcomes]
    assert [20, 30] == outcomes[2:4]


async def test_entries_survive_the_process(tmp_path: Path, clock: Clock) -> None:
    """What was answered before a crash is answered after it."""
    location = locate("idempotency", tmp_path)
    async with Store.open(location, clock, most_bytes=100) as store:
        await store.claim(ENTRY, PRINT, "c1", LEASE)
        await store.keep(ENTRY, "c1", ANSWER)

    async with Store.open(location, clock, most_bytes=100) as store:
        assert ENTRY_STATE_DONE == (await store.claim(ENTRY, PRINT, "c2", LEASE)).state


async def test_entries_from_before_there_were_revisions(tmp_path: Path, clock: Clock) -> None:
    """Are taken over as they are."""
    location = locate("idempotency", tmp_path)
    engine = location.thread_writer()
    schema.metadata.create_all(engine)
    store = Store(engine, engine, clock, most_bytes=100)
    await store.claim(ENTRY, PRINT, "c1", LEASE)
    engine.dispose()

    async with Store.open(location, clock, most_bytes=100) as later:
        assert ENTRY_STATE_RUNNING == (await later.claim(ENTRY, PRINT, "c2", LEASE)).state
    assert HISTORY.head == await HISTORY.revision(location)


async def test_entries_are_the_same_in_postgresql(postgres: Server, tmp_path: Path, clock: Clock) -> None:
    """Claimed once, prolonged, kept, given again, and dropped for want of room."""
    shared = DatabaseConfig(url=postgres.database())  # type: ignore[arg-type] # read from text
    location = Location("idempotency", tmp_path / "unused.db", shared)
    async with Store.open(location, clock, most_bytes=10) as store:
        found = await asyncio.gather(*(store.claim(ENTRY, PRINT, f"c{number}", LEASE) for number in range(5)))
        states = [one.state for one in found]
        winner = f"c{states.index(ENTRY_STATE_CLAIMED)}"
        await store.renew([(ENTRY, winner)], LEASE)
        assert await store.keep(ENTRY, winner, Answer(status=200, sealed=b"x" * 30))
        kept = await store.claim(ENTRY, PRINT, "late", LEASE)
        await store.sweep()
        gone = await store.claim(ENTRY, PRINT, "later", LEASE)

    assert (1, 4) == (states.count(ENTRY_STATE_CLAIMED), states.count(ENTRY_STATE_RUNNING))
    assert (ENTRY_STATE_DONE, ENTRY_STATE_NOT_KEPT) == (kept.state, gone.state)


async def test_leases_are_by_the_clock_of_postgresql(postgres: Server, tmp_path: Path) -> None:
    """Two roles whose own clocks are a day apart agree on who has an entry."""
    shared = DatabaseConfig(url=postgres.database())  # type: ignore[arg-type] # read from text
    location = locate("idempotency", tmp_path, shared=shared)
    late, early = Clock(), Clock()
    late.now += 86_400
    async with (
        Store.open(location, early, most_bytes=100) as one,
        Store.open(location, late, most_bytes=100) as other,
    ):
        first = await one.claim(ENTRY, PRINT, "c1", LEASE)
        await other.sweep()
        second = await other.claim(ENTRY, PRINT, "c2", LEASE)

    assert (ENTRY_STATE_CLAIMED, ENTRY_STATE_RUNNING) == (first.state, second.state)
