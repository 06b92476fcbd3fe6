"""The metrics role as a process runs it."""

from pathlib import Path

from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.api.metrics.v1 import metrics_pb2_grpc
from polyroute.mesh.config import MeshConfig
from polyroute.mesh.node import Node
from polyroute.metrics.config import MetricsConfig
from polyroute.metrics.wiring import role
from tests.unit.metrics.records import call

CONFIG = MeshConfig(drain_delay=0, drain_grace=0.2)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_two_lives(tmp_path: Path) -> None:
    """The role is healthy while it runs, gone afterwards, and the next life has what the first one stored."""
    stored, health = [], []
    for _ in range(2):
        node = Node(CONFIG, frozenset({"metrics"}), tmp_path / "run")
        async with role(node, MetricsConfig(), data_dir=tmp_path / "data"):
            health.append(await node.healthy("metrics"))
            metrics = metrics_pb2_grpc.MetricsServiceStub(node.channel("metrics"))
            stored.append((await metrics.Append(pb.AppendRequest(records=[call()]), timeout=5)).stored)
        health.append(await node.healthy("metrics"))
        await node.close()

    assert [1, 0] == stored
    assert [True, False] * 2 == health


async def test_another_place_for_the_database(tmp_path: Path) -> None:
    """The database lies where the operator says."""
    place = tmp_path / "elsewhere" / "calls.db"
    node = Node(CONFIG, frozenset({"metrics"}), tmp_path / "run")
    async with role(node, MetricsConfig(database=place), data_dir=tmp_path):
        pass
    await node.close()

    assert {"elsewhere", "run"} == names(tmp_path)
    assert "calls.db" in names(place.parent)
