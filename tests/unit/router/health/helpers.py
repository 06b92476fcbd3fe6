"""What the tests of health share: a clock, outcomes, and figures as metrics pushes them."""

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.metrics.v1.metrics_pb2 import DeploymentStats, Percentiles, WatchStatsResponse, WindowStats
from polyroute.router.health.outcomes import Outcome

GOOD = Outcome(first_token_ms=400.0, total_ms=2000.0, output_tokens=81)
BAD = Outcome(pb.FAULT_SERVER, total_ms=100.0, status=500)
BUSY = Outcome(pb.FAULT_SERVER, total_ms=100.0, status=503)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def percentiles(p50: float, count: int) -> Percentiles:
    """Percentiles of some values, 90th and 99th at twice and three times the median."""
    return Percentiles(p50=p50, p90=2 * p50, p99=3 * p50, count=count)


def window(count: int, p50: float = 400.0, good: int | None = None) -> WindowStats:
    """A window of that many attempts."""
    successes = count if good is None else good
    return WindowStats(
        attempts=count,
        successes=successes,
        first_token_milliseconds=percentiles(p50, successes) if successes else None,
        total_milliseconds=percentiles(5 * p50, successes) if successes else None,
        tokens_per_second=percentiles(40.0, successes) if successes else None,
    )


def stats(name: str, one: WindowStats, five: WindowStats, thirty: WindowStats) -> DeploymentStats:
    """What metrics says of one deployment."""
    return DeploymentStats(deployment=name, one_minute=one, five_minutes=five, thirty_minutes=thirty)


def push(*deployments: DeploymentStats) -> WatchStatsResponse:
    """A message of metrics."""
    return WatchStatsResponse(version=1, deployments=deployments)
