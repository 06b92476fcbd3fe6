"""The edge's own figures for Prometheus: calls under way, waiting and shed, and whether limits are counted alone."""

import platform
from collections.abc import Iterator
from importlib.metadata import version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from polyroute.edge.allowance import Allowances
from polyroute.edge.tally import Tally


class CallFigures(Collector):
    """What is counted of calls, and which version counts it.

    Args:
        tally: Of this edge.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._build = (version("polyroute"), platform.python_version())

    def collect(self) -> Iterator[Metric]:
        """The figures at this moment."""
        build = GaugeMetricFamily("polyroute_build_info", "which version runs; always 1", labels=("version", "python"))
        build.add_metric(self._build, 1.0)
        yield build
        yield GaugeMetricFamily("polyroute_inflight", "calls that have begun and not ended", self._tally.under_way)
        limited = CounterMetricFamily(
            "polyroute_rate_limited", "calls refused by a limit, by what it binds", labels=("scope",)
        )
        for scope, count in self._tally.limited.items():
            limited.add_metric((scope,), count)
        yield limited


class AllowanceFigures(Collector):
    """What allowances know, put into Prometheus' form when asked for.

    Args:
        allowances: Of this edge.
    """

    def __init__(self, allowances: Allowances) -> None:
        self._allowances = allowances

    def collect(self) -> Iterator[Metric]:
        """The figures at this moment."""
        alone = float(self._allowances.shares.degraded)
        yield GaugeMetricFamily("polyroute_edge_limits_degraded", "limits are not counted with all edges", alone)
        turnstile = self._allowances.turnstile
        if turnstile.bounded:
            yield GaugeMetricFamily("polyroute_edge_calls_under_way", "calls that were let in", turnstile.under_way)
            yield GaugeMetricFamily("polyroute_edge_calls_waiting", "calls that wait for their turn", turnstile.waiting)
        shed = CounterMetricFamily("polyroute_edge_calls_shed", "calls turned away, by class", labels=("criticality",))
        for criticality, count in turnstile.shed.items():
            shed.add_metric((criticality.name.lower(),), count)
        yield shed
