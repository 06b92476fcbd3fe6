"""Live figures of deployments, out of what metrics pushes.

Each figure is of the shortest window (1, 5 or 30 minutes) that has enough values; where none has, of the longest that
has a few, and where even that has none, it is unknown. Unknown is said as such and never guessed.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from polyroute.api.metrics.v1.metrics_pb2 import DeploymentStats, Percentiles, WatchStatsResponse, WindowStats

ENOUGH: Final = 20  # values of a window that speak for themselves
FEW: Final = 5  # fewer say nothing about a deployment
_MINUTE: Final = 60.0


class Spread(NamedTuple):
    """Percentiles of a figure."""

    p50: float
    p90: float
    p99: float

    def at(self, percentile: int) -> float:
        """The value at a percentile; between the measured ones, the next higher one's."""
        return self.p50 if percentile <= 50 else self.p90 if percentile <= 90 else self.p99


class Figures(NamedTuple):
    """Live figures of one deployment; None where unknown.

    Args:
        latency: Milliseconds to the first content; to the end where nothing was streamed.
        throughput: Tokens per second after the first.
        success: Share of attempts without a fault, from 0 to 1.
        recent: The same over the last minute alone.
    """

    latency: Spread | None = None
    throughput: Spread | None = None
    success: float | None = None
    recent: float | None = None


UNKNOWN: Final = Figures()


class Stats:
    """The figures of all deployments as one message brought them; each is worked out when it is first asked for.

    Args:
        version: Of the message; 0 when there was none.
        load: Attempts per second of all deployments together, over the last minute.
        sources: What the message says of each deployment.
    """

    def __init__(self, version: int = 0, load: float = 0.0, sources: Mapping[str, DeploymentStats] | None = None):
        self.version = version
        self.load = load
        self._sources = sources or {}
        self._figures: dict[str, Figures] = {}

    def of(self, deployment: str) -> Figures:
        """The figures of a deployment."""
        found = self._figures.get(deployment)
        if found is not None:
            return found
        source = self._sources.get(deployment)
        if source is None:
            return UNKNOWN  # not kept: names that are merely passed on are without number
        found = self._figures[deployment] = figures_of(source)
        return found


NO_STATS: Final = Stats()


def stats_from(message: WatchStatsResponse) -> Stats:
    """The figures in a message of metrics."""
    sources = {one.deployment: one for one in message.deployments}
    load = sum(one.one_minute.attempts for one in message.deployments) / _MINUTE
    return Stats(message.version, load, sources)


def figures_of(stats: DeploymentStats) -> Figures:
    """The figures of one deployment."""
    windows = (stats.one_minute, stats.five_minutes, stats.thirty_minutes)
    latency = _spread(window.first_token_milliseconds for window in windows)
    return Figures(
        latency=latency or _spread(window.total_milliseconds for window in windows),
        throughput=_spread(window.tokens_per_second for window in windows),
        success=_success(windows),
        recent=_rate(stats.one_minute),
    )


def _spread(windows: Iterable[Percentiles]) -> Spread | None:
    last: Percentiles | None = None
    for window in windows:
        if window.count >= FEW:
            last = window
        if window.count >= ENOUGH:
            break
    return None if last is None else Spread(last.p50, last.p90, last.p99)


def _success(windows: Iterable[WindowStats]) -> float | None:
    last: WindowStats | None = None
    for window in windows:
        if window.attempts >= FEW:
            last = window
        if window.attempts >= ENOUGH:
            break
    return None if last is None else _rate(last)


def _rate(window: WindowStats) -> float | None:
    return window.successes / window.attempts if window.attempts >= FEW else None
