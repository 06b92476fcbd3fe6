"""Pushes live statistics to whoever watches: made once for all watchers, and only while somebody does."""

import asyncio
from collections.abc import AsyncGenerator
from time import time_ns
from typing import Final

from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.metrics.livestats import Figures, LiveStats, Percentiles, WindowFigures

BREATH: Final = 16  # deployments between which others on this loop get their turn: about two milliseconds


class StatsFeed:
    """The latest statistics as a message.

    Args:
        stats: Where the figures come from.
        interval: Seconds between two looks at them.
        first_version: What versions grow from; the time, unless given, so that they also grow over restarts.
    """

    def __init__(self, stats: LiveStats, *, interval: float = 1.0, first_version: int | None = None) -> None:
        self._stats = stats
        self._interval = interval
        version = time_ns() // 1_000_000 if first_version is None else first_version
        self._latest = pb.WatchStatsResponse(version=version)
        self._watchers = 0
        self._news = asyncio.Event()
        self._looking = asyncio.Lock()

    async def watch(self) -> AsyncGenerator[pb.WatchStatsResponse]:
        """The statistics now, and again whenever they have changed, for ever."""
        self._watchers += 1
        try:
            await self._look()
            seen = 0
            while True:
                if self._latest.version != seen:
                    seen = self._latest.version
                    yield self._latest
                else:
                    await self._news.wait()
        finally:
            self._watchers -= 1

    async def run(self) -> None:
        """Looks for changes, for ever."""
        while True:
            await asyncio.sleep(self._interval)
            if self._watchers:
                await self._look()

    async def _look(self) -> None:
        async with self._looking:
            if not self._stats.refresh():
                return
            deployments = []
            for name, figures in self._stats.figures():
                deployments.append(_message(name, figures))
                if len(deployments) % BREATH == 0:
                    await asyncio.sleep(0)
            self._latest = pb.WatchStatsResponse(version=self._latest.version + 1, deployments=deployments)
            news, self._news = self._news, asyncio.Event()
            news.set()


def _message(name: str, figures: Figures) -> pb.DeploymentStats:
    one, five, thirty = (_window(window) for window in figures)
    return pb.DeploymentStats(deployment=name, one_minute=one, five_minutes=five, thirty_minutes=thirty)


def _window(figures: WindowFigures) -> pb.WindowStats:
    return pb.WindowStats(
        attempts=figures.attempts,
        successes=figures.successes,
        first_token_milliseconds=_percentiles(figures.first_token_ms),
        total_milliseconds=_percentiles(figures.total_ms),
        tokens_per_second=_percentiles(figures.tokens_per_second),
    )


def _percentiles(figures: Percentiles | None) -> pb.Percentiles | None:
    if figures is None:
        return None
    return pb.Percentiles(p50=figures.p50, p90=figures.p90, p99=figures.p99, count=figures.count)
