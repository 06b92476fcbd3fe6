"""Builds the edge role and takes it down."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from polyroute.api.auth.v1.ledger_pb2_grpc import LedgerServiceStub
from polyroute.api.gateway.v1 import gateway_pb2_grpc
from polyroute.api.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from polyroute.api.providers.v1.providers_pb2_grpc import ProvidersServiceStub
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceStub
from polyroute.edge.allowance import Allowances
from polyroute.edge.authorizer import Authorizer
from polyroute.edge.config import EdgeConfig
from polyroute.edge.flow import Flow
from polyroute.edge.http import server
from polyroute.edge.http.app import App, Doors
from polyroute.edge.http.door import Door
from polyroute.edge.http.pages import Pages
from polyroute.edge.recorder import Recorder
from polyroute.edge.service import GatewayService
from polyroute.edge.settler import Settler
from polyroute.mesh.background import Background
from polyroute.mesh.node import Node, Service
from polyroute.mesh.spool import Shipper, Spool

SHIP_SECONDS: Final = 0.25  # that a record waits for company: a batch costs metrics far less than its records alone

_log = structlog.get_logger("edge")


@asynccontextmanager
async def role(node: Node, config: EdgeConfig, *, spool_dir: Path, shared: bool) -> AsyncGenerator[None]:
    """Opens the doors.

    Args:
        node: The process.
        config: Settings of the role.
        spool_dir: Where call records wait for metrics; this process's alone.
        shared: Other processes listen at the same HTTP address.
    """
    spool = Spool(spool_dir, max_bytes=config.spool_bytes)
    metrics = MetricsServiceStub(node.channel("metrics"))
    recorder = Recorder(spool, metrics)
    clock = asyncio.get_running_loop().time
    charges = Spool(spool_dir / "charges", max_bytes=config.spool_bytes)
    auth, ledger = AuthServiceStub(node.channel("auth")), LedgerServiceStub(node.channel("auth"))
    settler = Settler(charges, ledger)
    allowances = Allowances(auth, ledger, settler, clock, time.time, timeout=config.authorize_seconds)
    authorizer = Authorizer(auth, config.authorize_seconds, clock, recalled=allowances.recall)
    flow = Flow(
        config,
        authorizer,
        RouterServiceStub(node.channel("router")),
        ProvidersServiceStub(node.channel("providers")),
        recorder,
        allowances,
        partial(node.reach, "providers", config.reach_seconds),
    )
    pages = Pages(node, flow, metrics)
    app = App(Doors.of(Door(flow, config)), pages)
    door = Service(gateway_pb2_grpc.add_GatewayServiceServicer_to_server, GatewayService(flow, config))
    listening = server.bind(config.http.listen, shared=shared)
    try:
        async with (
            Shipper(spool, recorder.send, every=SHIP_SECONDS),
            Shipper(charges, settler.send, every=SHIP_SECONDS),
            Background() as tasks,
        ):
            tasks.start("watch-revocations", authorizer.follow)
            tasks.start("allowances", allowances.run)
            async with (
                node.serve("edge", door, public=True, shared=shared),
                server.serving(app, config.http, listening, grace=node.config.drain_grace),
            ):
                host, port = listening.getsockname()[:2]
                node.bound["http"] = f"http://{f'[{host}]' if ':' in host else host}:{port}"
                _log.info("doors open", http=node.bound["http"], grpc=node.bound["edge"])
                yield
                pages.draining = True
                await asyncio.sleep(node.config.drain_delay)
            await allowances.close()  # before the last charges are shipped
    finally:
        spool.close()
        charges.close()
        listening.close()
