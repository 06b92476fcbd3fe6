"""What an edge counts of its calls for itself."""

import pytest
from prometheus_client import CollectorRegistry

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.figures import CallFigures
from polyroute.edge.tally import Tally
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError


def ended(tally: Tally, error: MeshError | None = None) -> None:
    """A call from its beginning to its end."""
    tally.began()
    trail = Trail("r")
    if error is not None:
        trail.ended(error)
    tally.ended(trail)


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        ("key_0a1b", "key"),
        ("prj_0a1b", "project"),
        ("acc_0a1b", "account"),
        ("sub_0a1b", "plan"),
        ("installation", "installation"),
        ("catalog", "deployment"),
        ("", "address"),
        ("made up", "other"),
    ],
)
def test_what_a_limit_binds_and_never_whom(scope: str, told: str) -> None:
    """A refusal counts under the kind of its owner."""
    tally = Tally()
    metadata = {"scope": scope} if scope else {}
    ended(tally, MeshError(pb.REASON_RATE_LIMITED, "too many", metadata=metadata))

    assert {told: 1} == {name: count for name, count in tally.limited.items() if count}


def test_calls_under_way() -> None:
    """Those that have begun and not ended; other refusals are no limit's."""
    tally = Tally()
    registry = CollectorRegistry()
    registry.register(CallFigures(tally))
    tally.began()
    ended(tally)
    ended(tally, MeshError(pb.REASON_NOT_PERMITTED, "no", metadata={"scope": "key_1"}))

    assert 1 == registry.get_sample_value("polyroute_inflight")
    assert 0 == registry.get_sample_value("polyroute_rate_limited_total", {"scope": "key"})
    build = next(metric for metric in registry.collect() if metric.name == "polyroute_build_info").samples[0]
    assert ({"version", "python"}, 1.0) == (set(build.labels), build.value)
