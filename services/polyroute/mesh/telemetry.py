"""The figures that every process keeps of its RPCs, in Prometheus' words."""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

# Seconds; from a cached answer in the same process to a long stream.
BUCKETS: Final = (0.0005, 0.002, 0.01, 0.05, 0.2, 1.0, 5.0, 30.0, 120.0, 600.0)


class RpcMetrics(Collector):
    """Count and duration of each method's calls, by status code.

    Plain numbers that only the event loop's thread changes, put into Prometheus' form when asked for: the library's own
    counters take a lock each time, which is most of what they cost on the path of a call.

    Args:
        registry: Where they are exposed; one per process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._codes: dict[tuple[str, str], int] = {}
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}
        registry.register(self)

    def observe(self, method: str, code: str, seconds: float) -> None:
        """Counts one RPC that ended."""
        key = (method, code)
        self._codes[key] = self._codes.get(key, 0) + 1
        buckets = self._buckets.get(method)
        if buckets is None:
            buckets = self._buckets[method] = [0] * (len(BUCKETS) + 1)
            self._seconds[method] = 0.0
        buckets[bisect_left(BUCKETS, seconds)] += 1
        self._seconds[method] += seconds

    def collect(self) -> Iterator[Metric]:
        """The figures so far."""
        handled = CounterMetricFamily("polyroute_rpc_handled", "RPCs that ended, by code", labels=("method", "code"))
        for (method, code), count in self._codes.items():
            handled.add_metric((method, code), count)
        yield handled
        duration = HistogramMetricFamily("polyroute_rpc_duration_seconds", "duration of RPCs", labels=("method",))
        for method, buckets in self._buckets.items():
            duration.add_metric((method,), _cumulative(buckets), self._seconds[method])
        yield duration


def _cumulative(counts: list[int]) -> list[tuple[str, float]]:
    total = 0
    rows = []
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
        total += count
        rows.append((bound, float(total)))
    return rows
