"""Builds the metrics role and takes it down."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from polyroute.api.auth.v1.ledger_pb2_grpc import LedgerServiceStub
from polyroute.api.idempotency.v1 import idempotency_pb2_grpc
from polyroute.api.kept.v1 import kept_pb2_grpc
from polyroute.api.metrics.v1 import metrics_pb2_grpc
from polyroute.mesh.background import Background
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import locate
from polyroute.mesh.node import Node, Service
from polyroute.metrics.config import MetricsConfig
from polyroute.metrics.exposition import Exposition
from polyroute.metrics.feed import StatsFeed
from polyroute.metrics.follower import follow
from polyroute.metrics.idempotency import wiring as idempotency
from polyroute.metrics.livestats import LiveStats
from polyroute.metrics.recorder import Recorder
from polyroute.metrics.retention import Keep, sweep
from polyroute.metrics.service import MetricsService
from polyroute.metrics.store import Store


@asynccontextmanager
async def assembled(
    config: MetricsConfig, *, data_dir: Path, database: DatabaseConfig | None = None, ledger: Any = None
) -> AsyncGenerator[MetricsService]:
    """The metrics role without a server around it: database open, loops running; ended and closed on the way out.

    Args:
        config: What the operator set.
        data_dir: Folder for the database, unless `config` names another place.
        database: The database of all services; None for files.
        ledger: A stub of auth's LedgerService, which calls and sums follow; None where nothing is followed.
    """
    stats = LiveStats(max_deployments=config.max_deployments)
    exposition = Exposition(max_series=config.max_series)
    feed = StatsFeed(stats, interval=config.stats_interval)
    location = locate("metrics", data_dir, own=config.database, shared=database)
    keep = Keep(config.keep.calls, config.keep.hourly, config.keep.daily)
    async with Store.open(location) as store, Background() as loops:
        store.shifted = lambda shift: exposition.shift(shift.record, shift.cost)
        recorder = Recorder(store.insert, stats, exposition)
        loops.start("metrics.record", recorder.run)
        loops.start("metrics.stats", feed.run)
        loops.start("metrics.keep", partial(sweep, store.expire, keep))
        if ledger is not None:
            loops.start("metrics.adjust", partial(follow, ledger, store))
        yield MetricsService(recorder, store, feed, exposition)


@asynccontextmanager
async def role(
    node: Node, config: MetricsConfig, *, data_dir: Path, database: DatabaseConfig | None = None
) -> AsyncGenerator[None]:
    """Serves metrics on `node`.

    Args:
        node: The process to serve in.
        config: What the operator set.
        data_dir: Folder for the database, unless `config` names another place.
        database: The database of all services; None for files.
    """
    register = metrics_pb2_grpc.add_MetricsServiceServicer_to_server
    register_kept = kept_pb2_grpc.add_KeptServiceServicer_to_server
    register_keys = idempotency_pb2_grpc.add_IdempotencyServiceServicer_to_server
    location = locate("idempotency", data_dir, own=config.idempotency_database, shared=database)
    ledger = LedgerServiceStub(node.channel("auth"))
    async with (
        assembled(config, data_dir=data_dir, database=database, ledger=ledger) as service,
        idempotency.assembled(location, most_bytes=config.idempotency_bytes) as (keys, kept),
        node.serve("metrics", Service(register, service), Service(register_keys, keys), Service(register_kept, kept)),
    ):
        yield
