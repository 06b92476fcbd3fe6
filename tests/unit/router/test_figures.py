"""Which live figures a decision sees, and which are unknown."""

import pytest

from polyroute.api.metrics.v1.metrics_pb2 import DeploymentStats, Percentiles, WatchStatsResponse, WindowStats
from polyroute.router.figures import UNKNOWN, Spread, figures_of, stats_from


def counted(count: int, value: float) -> Percentiles:
    """So many values, all the same."""
    return Percentiles(p50=value, p90=value, p99=value, count=count)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((20, 90, 500), 1.0), ((19, 20, 500), 2.0), ((3, 19, 20), 3.0), ((5, 5, 5), 3.0), ((1, 2, 4), None)],
)
def test_shortest_window_with_enough_values(counts: tuple[int, int, int], expected: float | None) -> None:
    """Few values widen the window; too few even in the widest say nothing."""
    one, five, thirty = (
        WindowStats(first_token_milliseconds=counted(count, i + 1), tokens_per_second=counted(count, i + 1))
        for i, count in enumerate(counts)
    )
    figures = figures_of(DeploymentStats(one_minute=one, five_minutes=five, thirty_minutes=thirty))

    spread = None if expected is None else Spread(expected, expected, expected)
    assert (spread, spread) == (figures.latency, figures.throughput)


def test_success_rates() -> None:
    """The rate is of the shortest window that has enough attempts; an outage is of the last minute alone."""
    stats = DeploymentStats(
        one_minute=WindowStats(attempts=5, successes=1), five_minutes=WindowStats(attempts=40, successes=30)
    )

    figures = figures_of(stats)

    assert (0.75, 0.2) == (figures.success, figures.recent)
    assert None is figures_of(DeploymentStats(one_minute=WindowStats(attempts=4))).recent


def test_what_is_not_streamed_has_a_latency_too() -> None:
    """Without first tokens the whole answer's time counts."""
    window = WindowStats(total_milliseconds=counted(20, 7))

    assert Spread(7, 7, 7) == figures_of(DeploymentStats(one_minute=window)).latency


def test_percentile_between_the_measured_ones() -> None:
    """The next higher one stands for it."""
    spread = Spread(1, 2, 3)

    assert [1, 2, 2, 3] == [spread.at(percentile) for percentile in (50, 75, 90, 99)]


def test_message() -> None:
    """Load is of all deployments together; who is not in the message is unknown."""
    deployments = [DeploymentStats(deployment=name, one_minute=WindowStats(attempts=60)) for name in "ab"]

    stats = stats_from(WatchStatsResponse(version=3, deployments=deployments))

    assert (3, 2.0) == (stats.version, stats.load)
    assert UNKNOWN is stats.of("c")
    assert stats.of("a") is stats.of("a")
