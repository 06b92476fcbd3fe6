"""Where the breakers of deployments stand, in Prometheus' words."""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from polyroute.router.health.breaker import Phase
from polyroute.router.health.tracker import Health

_VALUES: Final[Mapping[Phase, float]] = {Phase.CLOSED: 0.0, Phase.HALF_OPEN: 1.0, Phase.OPEN: 2.0}
_HELP: Final = "whether a deployment is served (0), tried out by one call at a time (1) or ejected (2)"


class Circuits(Collector):
    """Read when they are asked for, and of the catalog's deployments alone: there is no end of what callers name.

    Args:
        health: Of the deployments.
    """

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """The figures at this moment."""
        states = GaugeMetricFamily("polyroute_circuit_state", _HELP, labels=("deployment", "provider"))
        for deployment, provider, phase in self._health.circuits():
            states.add_metric((deployment, provider), _VALUES[phase])
        yield states
