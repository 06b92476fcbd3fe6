"""Live figures as metrics pushes them."""

from polyroute.api.metrics.v1.metrics_pb2 import DeploymentStats, Percentiles, WatchStatsResponse, WindowStats
from polyroute.router.figures import Stats, stats_from

COUNT = 100


def spread(p50: float, p90: float | None = None, p99: float | None = None) -> Percentiles:
    """Percentiles of a hundred values; those that are not said are like the one before."""
    ninety = p50 if p90 is None else p90
    return Percentiles(p50=p50, p90=ninety, p99=ninety if p99 is None else p99, count=COUNT)


def window(
    rate: float = 1.0, latency: Percentiles | None = None, throughput: Percentiles | None = None, count: int = COUNT
) -> WindowStats:
    """A window of time with so many attempts, of which a share succeeded."""
    return WindowStats(
        attempts=count,
        successes=round(rate * count),
        first_token_milliseconds=latency,
        tokens_per_second=throughput,
    )


def live(version: int = 1, /, **windows: WindowStats) -> Stats:
    """The figures of deployments in all three windows; `p__a` stands for `p/a`."""
    return stats_from(
        WatchStatsResponse(
            version=version,
            deployments=[
                DeploymentStats(
                    deployment=name.replace("__", "/"), one_minute=one, five_minutes=one, thirty_minutes=one
                )
                for name, one in windows.items()
            ],
        )
    )
