"""Builds the metrics role and takes it down."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from polyroute.api.metrics.v1 import metrics_pb2_grpc
from polyroute.mesh.background import Background
from polyroute.mesh.node import Node, Service
from polyroute.metrics.config import MetricsConfig
from polyroute.metrics.exposition import Exposition
from polyroute.metrics.feed import StatsFeed
from polyroute.metrics.livestats import LiveStats
from polyroute.metrics.recorder import Recorder
from polyroute.metrics.service import MetricsService
from polyroute.metrics.store import Store


@asynccontextmanager
async def assembled(config: MetricsConfig, *, data_dir: Path) -> AsyncGenerator[MetricsService]:
    """The metrics role without a server around it: database open, loops running; ended and closed on the way out."""
    stats = LiveStats(max_deployments=config.max_deployments)
    exposition = Exposition(max_series=config.max_series)
    feed = StatsFeed(stats, interval=config.stats_interval)
    async with Store.open(config.database or data_dir / "metrics.db") as store, Background() as loops:
        recorder = Recorder(store.insert, stats, exposition)
        loops.start("metrics.record", recorder.run)
        loops.start("metrics.stats", feed.run)
        yield MetricsService(recorder, store, feed, exposition)


@asynccontextmanager
async def role(node: Node, config: MetricsConfig, *, data_dir: Path) -> AsyncGenerator[None]:
    """Serves metrics on `node`.

    Args:
        node: The process to serve in.
        config: What the operator set.
        data_dir: Folder for the database, unless `config` names another place.
    """
    register = metrics_pb2_grpc.add_MetricsServiceServicer_to_server
    async with (
        assembled(config, data_dir=data_dir) as service,
        node.serve("metrics", Service(register, service)),
    ):
        yield
