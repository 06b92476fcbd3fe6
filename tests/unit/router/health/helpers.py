"""What the tests of health share: a clock, outcomes, a model with some deployments, figures as metrics pushes them."""

from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, OPERATION_EMBEDDING, Operation
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.metrics.v1.metrics_pb2 import DeploymentStats, Percentiles, WatchStatsResponse, WindowStats
from polyroute.router.health.outcomes import Outcome
from polyroute.router.health.tracker import Health
from polyroute.router.health.unit import Member, Rules, Verdict

GOOD = Outcome(first_token_ms=400.0, total_ms=2000.0, output_tokens=81)
BAD = Outcome(pb.FAULT_SERVER, total_ms=100.0, status=500)
BUSY = Outcome(pb.FAULT_SERVER, total_ms=100.0, status=503)
RATE = Outcome(pb.FAULT_RATE, status=429, retry_after=20.0)
GONE = Outcome(pb.FAULT_MODEL_GONE, status=404)
NO_VECTORS = GONE._replace(operation=OPERATION_EMBEDDING)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class House:
    """Health of a few deployments of one model, and short words for what happens to it."""

    def __init__(self, *names: str, rules: Rules | None = None) -> None:
        self.clock = Clock()
        self.health = Health(rules, clock=self.clock, seed=1)
        self.names = list(names)
        self.health.arrange(Member(name, "model", f"{name}-vendor") for name in names)
        self.calls = 0

    def attempt(self, name: str, outcome: Outcome = GOOD, count: int = 1, *, attempt: int = 1) -> None:
        for _ in range(count):
            self.calls += 1
            self.health.begin(name, f"call-{self.calls}", attempt=attempt)
            self.health.end(name, f"call-{self.calls}", outcome, attempt=attempt)

    def order(self, request_id: str = "call", operation: Operation.ValueType = OPERATION_CHAT) -> list[str]:
        return list(self.health.steer(self.names, request_id, operation).order)

    def verdict(self, name: str) -> Verdict:
        return self.health.state().of(name).verdict


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
