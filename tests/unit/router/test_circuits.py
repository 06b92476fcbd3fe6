"""What Prometheus is told of breakers."""

from prometheus_client import CollectorRegistry

from polyroute.router.circuits import Circuits
from tests.unit.router.health.helpers import BAD, House


def test_where_breakers_stand() -> None:
    """Served, ejected, half open; not of deployments that callers thought of."""
    house = House("a", "b")
    registry = CollectorRegistry()
    registry.register(Circuits(house.health))
    house.attempt("callers/own", BAD, 6)

    def stand() -> dict[str, float]:
        house.health.state()
        return {one.labels["deployment"]: one.value for metric in registry.collect() for one in metric.samples}

    before = stand()
    house.attempt("a", BAD, 6)
    ejected = stand()
    house.clock.now += 40

    assert {"a": 0.0, "b": 0.0} == before
    assert {"a": 2.0, "b": 0.0} == ejected
    assert {"a": 1.0, "b": 0.0} == stand()
