"""Verdicts: kept while they may be, and not a second longer."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager

import grpc
import pytest

from polyroute.api.auth.v1.auth_pb2 import WatchRevocationsResponse
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge import authorizer as module
from polyroute.edge.authorizer import Authorizer
from polyroute.edge.strangers import Strangers
from polyroute.mesh.errors import MeshError
from tests.unit.edge.peers import KEY, Clock, FakeAuth, verdict

AWAY = MeshError(pb.REASON_SERVICE_UNAVAILABLE, "told to")
INVALID = MeshError(pb.REASON_CREDENTIAL_INVALID, "this key was revoked")


class Desk:
    """An authorizer between a clock that stands still and an auth that does as told."""

    def __init__(self) -> None:
        self.auth, self.clock = FakeAuth(), Clock()  # type: ignore[abstract] # has what the edge calls
        self.authorizer = Authorizer(self.auth.stub(), 5.0, self.clock)

    async def ask(self, key: str = KEY) -> str:
        """Whose key it is."""
        return (await self.authorizer.verdict(key)).caller.key_id

    async def refused(self, key: str = KEY) -> MeshError:
        with pytest.raises(MeshError) as caught:
            await self.authorizer.verdict(key)
        return caught.value

    async def renewed(self) -> None:
        """Returns when no renewal is under way."""
        while self.authorizer._renewals:
            await asyncio.sleep(0)

    @asynccontextmanager
    async def following(self) -> AsyncGenerator[None]:
        task = asyncio.create_task(self.authorizer.follow())
        while not self.auth.watched:
            await asyncio.sleep(0)
        yield
        task.cancel()
        await asyncio.wait([task])

    async def heard(self, revision: int) -> None:
        while self.authorizer._revision != revision:
            await asyncio.sleep(0)


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def within(waiting: Awaitable[object]) -> None:
    async with asyncio.timeout(2):
        await waiting


async def test_first_call_asks_and_the_next_does_not(desk: Desk) -> None:
    """In steady state auth is not on the path of a call."""
    answers = [await desk.ask() for _ in range(3)]

    assert (["key_1"] * 3, 1) == (answers, desk.auth.asked)


async def test_refusals_are_not_kept(desk: Desk) -> None:
    """A key that is created a moment later works at once."""
    desk.auth.failure = INVALID
    reason = (await desk.refused()).reason
    desk.auth.failure = None

    assert (pb.REASON_CREDENTIAL_INVALID, "key_1") == (reason, await desk.ask())


async def test_nothing_presented_asks_nobody(desk: Desk) -> None:
    """Auth need not say that there is no key."""
    assert pb.REASON_CREDENTIAL_MISSING == (await desk.refused("")).reason
    assert 0 == desk.auth.asked


@pytest.mark.parametrize("key", ["x" * 5000, "\xff\xfe", "pr-\x00", "' OR 1=1 --"])
async def test_no_credential_breaks_it(desk: Desk, key: str) -> None:
    """What cannot be a key is a wrong key, not an outage."""
    desk.auth.failure = INVALID

    assert pb.REASON_CREDENTIAL_INVALID == (await desk.refused(key)).reason


async def test_unknown_keys_are_bounded_by_address(desk: Desk) -> None:
    """Auth is not asked beyond the bound; keys that were seen before, and other addresses, are as ever."""
    here, there = "8.8.4.4", "8.8.8.8"
    strangers = Strangers(3, desk.clock, proxied=False)
    authorizer = Authorizer(desk.auth.stub(), 5.0, desk.clock, strangers=strangers)
    await authorizer.verdict(KEY, here)
    desk.auth.failure = INVALID
    reasons = []
    for number in range(6):
        with pytest.raises(MeshError) as caught:
            await authorizer.verdict(f"pr-guess-{number}", here)
        reasons.append(caught.value.reason)
    asked = desk.auth.asked
    desk.auth.failure = None
    desk.auth.verdicts["pr-new"] = verdict()
    known = await authorizer.verdict(KEY, here)
    elsewhere = await authorizer.verdict("pr-new", there)

    assert [pb.REASON_CREDENTIAL_INVALID] * 3 + [pb.REASON_RATE_LIMITED] * 3 == reasons
    assert 4 == asked
    assert ["key_1"] * 2 == [one.caller.key_id for one in (known, elsewhere)]


async def test_an_outage_is_no_guess(desk: Desk) -> None:
    """What auth could not say counts against nobody."""
    authorizer = Authorizer(desk.auth.stub(), 5.0, desk.clock, strangers=Strangers(2, desk.clock, proxied=False))
    desk.auth.failure = AWAY
    for _ in range(10):
        with pytest.raises(MeshError) as caught:
            await authorizer.verdict(KEY, "8.8.4.4")
        assert pb.REASON_SERVICE_UNAVAILABLE == caught.value.reason
    desk.auth.failure = None

    assert "key_1" == (await authorizer.verdict(KEY, "8.8.4.4")).caller.key_id


async def test_credentials_are_not_kept_in_memory(desk: Desk) -> None:
    """What is kept is a keyed digest, under a key of this process."""
    other = Desk()
    await desk.ask(), await other.ask()

    assert KEY.encode() not in b"".join(desk.authorizer._kept)
    assert set(desk.authorizer._kept).isdisjoint(other.authorizer._kept)


async def test_stale_verdict_serves_while_one_renewal_is_under_way(desk: Desk) -> None:
    """Nobody waits for auth, and it is asked once."""
    await desk.ask()
    desk.clock.advance(29)
    desk.auth.gate = asyncio.Event()
    answers = [await desk.ask() for _ in range(5)]
    await asyncio.sleep(0)
    asked = desk.auth.asked
    desk.auth.gate.set()
    await within(desk.renewed())
    desk.clock.advance(29)
    await desk.ask()

    assert (["key_1"] * 5, 2, 2) == (answers, asked, desk.auth.asked)


async def test_idle_key_is_asked_about_before_it_is_used(desk: Desk) -> None:
    """It may have been revoked while the push was lost: not one call more is let in."""
    await desk.ask()
    desk.clock.advance(30)
    desk.auth.failure = INVALID

    assert pb.REASON_CREDENTIAL_INVALID == (await desk.refused()).reason


async def test_nobody_waits_for_an_auth_that_is_silent(desk: Desk) -> None:
    """Once it is known not to answer, verdicts that are no longer fresh are used and renewed beside the calls."""
    desk.auth.verdicts["pr-other"] = verdict(key_id="key_2")
    await desk.ask(), await desk.ask("pr-other")
    desk.clock.advance(30)
    desk.auth.failure = AWAY
    await desk.ask()
    desk.auth.gate = asyncio.Event()
    answers = [await desk.ask("pr-other") for _ in range(3)]

    assert ["key_2"] * 3 == answers


async def test_fresh_verdict_is_not_renewed(desk: Desk) -> None:
    """One tick before its time, which is a fifth before it is no longer fresh."""
    await desk.ask()
    desk.clock.advance(24.999)
    await desk.ask()

    assert not desk.authorizer._renewals


async def test_auth_away_is_bridged_until_the_verdict_is_no_longer_usable(desk: Desk) -> None:
    """Cached callers go on; the bound counts from the verdict, not from the last use."""
    await desk.ask()
    desk.auth.failure = AWAY
    for _ in range(9):
        desk.clock.advance(33)
        await desk.ask()
        await within(desk.renewed())
    desk.clock.advance(3)
    told = await desk.refused()

    assert (pb.REASON_SERVICE_UNAVAILABLE, 1.0) == (told.reason, told.retry_after)


async def test_failed_renewal_is_tried_again(desk: Desk) -> None:
    """By the next call, until auth is back."""
    await desk.ask()
    desk.clock.advance(30)
    desk.auth.failure = AWAY
    await desk.ask()
    await within(desk.renewed())
    desk.auth.failure = None
    await desk.ask()
    await within(desk.renewed())
    desk.clock.advance(24)
    await desk.ask()

    assert (3, False) == (desk.auth.asked, bool(desk.authorizer._renewals))


async def test_renewal_that_is_refused_ends_the_key(desk: Desk) -> None:
    """One stale answer, no second one."""
    await desk.ask()
    desk.clock.advance(29)
    desk.auth.failure = INVALID
    stale = await desk.ask()
    await within(desk.renewed())

    assert ("key_1", pb.REASON_CREDENTIAL_INVALID) == (stale, (await desk.refused()).reason)


async def test_unknown_key_is_not_let_in_while_auth_is_away(desk: Desk) -> None:
    """Closed, not open."""
    desk.auth.failure = AWAY

    assert pb.REASON_SERVICE_UNAVAILABLE == (await desk.refused("pr-never-seen")).reason


async def test_key_that_expires_is_not_bridged(desk: Desk) -> None:
    """Its own end counts, whatever `usable_for` says."""
    ending = verdict(fresh=30, usable=300)
    ending.expire_time.FromNanoseconds(int((time.time() + 10) * 1e9))
    desk.auth.verdicts[KEY] = ending
    await desk.ask()
    desk.clock.advance(9)
    await desk.ask()
    before = desk.auth.asked
    desk.auth.failure = INVALID
    desk.clock.advance(1)

    assert (1, pb.REASON_CREDENTIAL_INVALID) == (before, (await desk.refused()).reason)


async def test_usable_is_never_shorter_than_fresh(desk: Desk) -> None:
    """A verdict without `usable_for` lives as long as it is fresh."""
    desk.auth.verdicts[KEY] = verdict(fresh=30, usable=0)
    await desk.ask()
    desk.clock.advance(29)
    await desk.ask()

    assert 1 == desk.auth.asked


async def test_revoked_key_is_asked_about_again(desk: Desk) -> None:
    """Its verdict dies with the push; others live."""
    desk.auth.verdicts["pr-other"] = verdict(key_id="key_2")
    async with desk.following():
        await desk.ask(), await desk.ask("pr-other")
        desk.auth.push(1, "key_1")
        await within(desk.heard(1))
        desk.auth.failure = INVALID
        other = await desk.ask("pr-other")

        assert (pb.REASON_CREDENTIAL_INVALID, "key_2") == ((await desk.refused()).reason, other)


async def test_reset_drops_every_verdict(desk: Desk) -> None:
    """What was missed is not known, so nothing is trusted."""
    async with desk.following():
        await desk.ask()
        desk.auth.push(9, reset=True)
        await within(desk.heard(9))
        await desk.ask()

    assert 2 == desk.auth.asked


async def test_revocation_overtakes_a_verdict(desk: Desk) -> None:
    """A verdict that was on its way when a key ended may be that key's: it is not kept."""
    async with desk.following():
        desk.auth.gate = asyncio.Event()
        asking = asyncio.create_task(desk.ask())
        while not desk.auth.asked:
            await asyncio.sleep(0)
        desk.auth.push(1, "key_1")
        await within(desk.heard(1))
        desk.auth.gate.set()
        await asking
        desk.auth.failure = INVALID

        assert pb.REASON_CREDENTIAL_INVALID == (await desk.refused()).reason


async def test_revocation_overtakes_a_renewal(desk: Desk) -> None:
    """Neither the old verdict nor the one on its way is used after the push."""
    async with desk.following():
        await desk.ask()
        desk.clock.advance(30)
        desk.auth.gate = asyncio.Event()
        await desk.ask()
        while desk.auth.asked < 2:
            await asyncio.sleep(0)
        desk.auth.push(1, "key_1")
        await within(desk.heard(1))
        desk.auth.gate.set()
        await within(desk.renewed())
        desk.auth.failure = INVALID

        assert pb.REASON_CREDENTIAL_INVALID == (await desk.refused()).reason


async def test_broken_watch_is_opened_again_where_it_was(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Auth then says what was missed, or that it does not know."""
    monkeypatch.setattr(module, "REST_SECONDS", 0)
    async with desk.following():
        desk.auth.push(4, "key_9")
        await within(desk.heard(4))
        desk.auth.cut(AWAY)
        async with asyncio.timeout(2):
            while len(desk.auth.watched) < 2:
                await asyncio.sleep(0)

    assert [0, 4] == desk.auth.watched


async def test_memory_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest verdict goes when there are too many."""
    monkeypatch.setattr(module, "MOST", 2)
    for number in range(3):
        desk.auth.verdicts[f"pr-{number}"] = verdict(key_id=f"key_{number}")
        await desk.ask(f"pr-{number}")
    await desk.ask("pr-2")
    before = desk.auth.asked
    await desk.ask("pr-0")

    assert (3, 4, 2) == (before, desk.auth.asked, len(desk.authorizer._kept))


async def test_bare_failure_of_auth_is_an_outage(desk: Desk) -> None:
    """Only auth's own words refuse a key: a proxy's UNAUTHENTICATED does not."""
    assert grpc.StatusCode.UNAVAILABLE == (await desk.refused("pr-unknown")).code


async def test_changed_verdict_is_asked_for_before_it_is_used(desk: Desk) -> None:
    """Whoever is named by what has changed; an auth that is away leaves what there was."""
    await desk.ask()
    desk.authorizer._apply(WatchRevocationsResponse(changed_scopes=["prj_other"]))
    await desk.ask()
    unasked = desk.auth.asked
    desk.authorizer._apply(WatchRevocationsResponse(changed_scopes=["prj_1"]))
    desk.auth.failure = AWAY
    bridged = await desk.ask()
    desk.auth.failure = None
    await desk.ask()
    await desk.ask()

    assert (1, "key_1", 3) == (unasked, bridged, desk.auth.asked)


async def test_recalls_reach_those_who_hold_money(desk: Desk) -> None:
    """By purse."""
    told: list[str] = []
    desk.authorizer._recalled = told.extend
    desk.authorizer._apply(WatchRevocationsResponse(recalled_purses=["key_1", "acc_1"]))

    assert ["key_1", "acc_1"] == told


async def test_watch_that_was_away_trusts_nothing_as_fresh(desk: Desk) -> None:
    """Changes are not told twice."""
    await desk.ask()
    desk.authorizer._watched = True
    desk.authorizer._stale(lambda _: True)
    await desk.ask()

    assert 2 == desk.auth.asked
