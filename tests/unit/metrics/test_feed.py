"""Pushing live statistics to watchers."""

import asyncio

import pytest

from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.metrics.feed import StatsFeed
from polyroute.metrics.livestats import LiveStats, Sample

SUCCESS = Sample(success=True, first_token_ms=100.0, total_ms=1000.0)


async def test_at_once_and_then_on_change() -> None:
    """The first message does not wait, the next one comes with the next change, and versions grow."""
    stats = LiveStats()
    feed = StatsFeed(stats, interval=0, first_version=7)
    stats.observe("north", SUCCESS)
    running = asyncio.create_task(feed.run())
    messages = feed.watch()
    first = await anext(messages)
    upcoming = asyncio.ensure_future(anext(messages))
    for _ in range(5):
        await asyncio.sleep(0)
    quiet = not upcoming.done()
    stats.observe("north", SUCCESS)
    second = await upcoming
    running.cancel()
    await messages.aclose()

    assert quiet
    assert (8, 9) == (first.version, second.version)
    assert [1, 2] == [message.deployments[0].one_minute.attempts for message in (first, second)]


async def test_nothing_yet() -> None:
    """Before the first attempt the message says that there is none."""
    messages = StatsFeed(LiveStats(), first_version=7).watch()
    first = await anext(messages)
    await messages.aclose()

    assert pb.WatchStatsResponse(version=7) == first


async def test_the_message() -> None:
    """Every window and figure is in its place; what was not measured is unset."""
    stats = LiveStats()
    stats.observe("north", SUCCESS)
    stats.observe("north", Sample(success=False))
    messages = StatsFeed(stats).watch()
    (north,) = (await anext(messages)).deployments
    await messages.aclose()

    assert "north" == north.deployment
    for window in (north.one_minute, north.five_minutes, north.thirty_minutes):
        assert (2, 1) == (window.attempts, window.successes)
        assert (1, 1) == (window.first_token_milliseconds.count, window.total_milliseconds.count)
        assert 100.0 == pytest.approx(window.first_token_milliseconds.p50, rel=0.02)
        assert 1000.0 == pytest.approx(window.total_milliseconds.p99, rel=0.02)
        assert not window.HasField("tokens_per_second")


async def test_watchers_share_a_message() -> None:
    """It is made once, however many watch."""
    stats = LiveStats()
    stats.observe("north", SUCCESS)
    feed = StatsFeed(stats)
    watches = [feed.watch() for _ in range(3)]
    messages = [await anext(watch) for watch in watches]
    for watch in watches:
        await watch.aclose()

    assert messages[0] is messages[1] is messages[2]


async def test_versions_grow_over_restarts() -> None:
    """A feed of a later life begins above one of an earlier life."""
    earlier = StatsFeed(LiveStats()).watch()
    await asyncio.sleep(0.002)
    later = StatsFeed(LiveStats()).watch()

    assert (await anext(earlier)).version < (await anext(later)).version
    for watch in (earlier, later):
        await watch.aclose()
