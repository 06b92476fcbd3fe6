"""Builds the edge role and takes it down."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from polyroute.api.gateway.v1 import gateway_pb2_grpc
from polyroute.api.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from polyroute.api.providers.v1.providers_pb2_grpc import ProvidersServiceStub
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceStub
from polyroute.edge.authorizer import Authorizer
from polyroute.edge.config import EdgeConfig
from polyroute.edge.flow import Flow
from polyroute.edge.http import server
from polyroute.edge.http.app import App, Doors
from polyroute.edge.http.door import Door
from polyroute.edge.http.pages import Pages
from polyroute.edge.recorder import Recorder
from polyroute.edge.service import GatewayService
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
    authorizer = Authorizer(
        AuthServiceStub(node.channel("auth")), config.authorize_seconds, asyncio.get_running_loop().time
    )
    flow = Flow(
        config,
        authorizer,
        RouterServiceStub(node.channel("router")),
        ProvidersServiceStub(node.channel("providers")),
        recorder,
        partial(node.reach, "providers", config.reach_seconds),
    )
    pages = Pages(node, flow, metrics)
    app = App(Doors.of(Door(flow, config)), pages)
    door = Service(gateway_pb2_grpc.add_GatewayServiceServicer_to_server, GatewayService(flow, config))
    listening = server.bind(config.http.listen, shared=shared)
    try:
        async with Shipper(spool, recorder.send, every=SHIP_SECONDS), Background() as tasks:
            tasks.start("watch-revocations", authorizer.follow)
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
    finally:
        spool.close()
        listening.close()
