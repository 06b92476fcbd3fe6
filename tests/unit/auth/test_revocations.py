"""The feed of revocations."""

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from polyroute.auth.revocations import EVERYTHING, REVOKED, Batch, News, RevocationFeed

KEPT = 4


class Watcher:
    """Someone who keeps verdicts: the keys it believes in, and its place in the feed."""

    def __init__(self, revision: int = 0) -> None:
        self.revision = revision
        self.believed: set[str] = set()

    def take(self, batch: Batch) -> None:
        self.believed = set() if batch.reset else self.believed - set(batch.key_ids)
        self.revision = batch.revision


class Feed(RuleBasedStateMachine):
    """Keys come and end, watchers come and lag, the service restarts: no watcher that is up to date is wrong."""

    @initialize()
    def begin(self) -> None:
        self.feed = RevocationFeed(KEPT)
        self.ended: list[str] = []  # in order; place + 1 == revision
        self.living: list[str] = []
        self.made = 0
        self.watchers: list[Watcher] = []

    @rule()
    def create(self) -> None:
        self.made += 1
        self.living.append(f"key_{self.made}")

    @rule(which=st.integers(0, 99), repeated=st.booleans())
    def revoke(self, which: int, repeated: bool) -> None:
        if self.living:
            self.ended.append(self.living.pop(which % len(self.living)))
            latest = list(enumerate(self.ended, start=1))
            self.feed.extend(latest if repeated else latest[-1:])

    @rule()
    def restart(self) -> None:
        self.feed = RevocationFeed(KEPT)
        self.feed.extend(list(enumerate(self.ended, start=1))[-KEPT:])

    @rule()
    def watch(self) -> None:
        watcher = Watcher()
        watcher.take(self.feed.since(0))
        self.watchers.append(watcher)

    @rule(which=st.integers(0, 99), key=st.integers(0, 99))
    def believe(self, which: int, key: int) -> None:
        if self.watchers and self.living:
            self.watchers[which % len(self.watchers)].believed.add(self.living[key % len(self.living)])

    @rule(which=st.integers(0, 99))
    def catch_up(self, which: int) -> None:
        if self.watchers:
            watcher = self.watchers[which % len(self.watchers)]
            behind, before = len(self.ended) - watcher.revision, watcher.revision
            batch = self.feed.since(before)
            watcher.take(batch)

            assert batch.reset == (behind > KEPT)
            assert batch.reset or list(batch.key_ids) == self.ended[before:]
            assert watcher.believed.isdisjoint(self.ended)

    @rule(ahead=st.integers(1, 9))
    def ask_from_the_future(self, ahead: int) -> None:
        assert Batch(len(self.ended), reset=True) == self.feed.since(len(self.ended) + ahead)

    @invariant()
    def revision_counts_revocations(self) -> None:
        assert len(self.ended) == self.feed.revision

    @invariant()
    def latest_are_known_and_older_ones_are_forgotten(self) -> None:
        known = [key_id for key_id in self.ended if key_id in self.feed]

        assert self.ended[-KEPT:] == known


TestFeed = Feed.TestCase
TestFeed.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


async def test_first_batch_comes_at_once() -> None:
    """A watcher of a quiet feed learns its place."""
    feed = RevocationFeed()
    async with aclosing(feed.watch(0)) as batches:
        assert Batch(0) == await anext(batches)


async def test_each_revocation_wakes_every_watcher() -> None:
    """One push, one batch."""
    feed = RevocationFeed()
    async with aclosing(feed.watch(0)) as one, aclosing(feed.watch(0)) as other:
        await anext(one), await anext(other)
        waiting = [asyncio.create_task(anext(one)), asyncio.create_task(anext(other))]
        await asyncio.sleep(0)
        feed.extend([(1, "key_1")])

        assert [Batch(1, ("key_1",))] * 2 == await asyncio.gather(*waiting)


async def test_slow_watcher_gets_one_batch() -> None:
    """What happened while it was busy comes together, in order."""
    feed = RevocationFeed()
    async with aclosing(feed.watch(0)) as batches:
        await anext(batches)
        for revision in (1, 2, 3):
            feed.extend([(revision, f"key_{revision}")])

        assert Batch(3, ("key_1", "key_2", "key_3")) == await anext(batches)


async def test_nothing_new_wakes_nobody() -> None:
    """A revocation that is known already is not pushed twice."""
    feed = RevocationFeed()
    feed.extend([(1, "key_1")])
    async with aclosing(feed.watch(1)) as batches:
        await anext(batches)
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)
        feed.extend([(1, "key_1")])
        for _ in range(3):
            await asyncio.sleep(0)
        quiet = not waiting.done()
        feed.extend([(2, "key_2")])

        assert quiet
        assert Batch(2, ("key_2",)) == await waiting


async def test_what_others_tell_reaches_watchers_and_goes_no_further() -> None:
    """Only what happened here is spread: otherwise two auth roles would tell each other the same for ever."""
    feed = RevocationFeed()
    spread: list[News] = []
    feed.spread = spread.append
    async with aclosing(feed.watch(0)) as batches:
        await anext(batches)
        feed.hear(1, "key_1")
        feed.told(News("prj_1"))
        feed.told(News("acc_1", recall=True))
        heard = await anext(batches)
        feed.changed("prj_2")
        feed.recall("acc_2")
        feed.extend([(2, "key_2")])

    assert Batch(1, ("key_1",), changed=("prj_1",), recalled=("acc_1",)) == heard
    assert [News("prj_2"), News("acc_2", recall=True), REVOKED] == spread


async def test_when_anything_may_have_changed_watchers_are_sent_away() -> None:
    """Who comes back trusts nothing that it kept as fresh."""
    feed = RevocationFeed()
    async with aclosing(feed.watch(0)) as batches:
        await anext(batches)
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)
        feed.told(EVERYTHING)

        with pytest.raises(StopAsyncIteration):
            await waiting
    async with aclosing(feed.watch(0)) as batches:
        assert Batch(0) == await anext(batches)
