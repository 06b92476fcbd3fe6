"""Builds the edge role and takes it down."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from polyroute.api.auth.v1.ledger_pb2_grpc import LedgerServiceStub
from polyroute.api.gateway.v1 import gateway_pb2_grpc, usage_pb2_grpc
from polyroute.api.kept.v1.kept_pb2_grpc import KeptServiceStub
from polyroute.api.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from polyroute.api.providers.v1.providers_pb2_grpc import ProvidersServiceStub
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceStub
from polyroute.edge.admin.gateway import Administration
from polyroute.edge.admin.throttle import Throttle
from polyroute.edge.allowance import Allowances
from polyroute.edge.authorizer import Authorizer
from polyroute.edge.config import EdgeConfig
from polyroute.edge.figures import AllowanceFigures, CallFigures
from polyroute.edge.flow import Flow
from polyroute.edge.http import server
from polyroute.edge.http.admin import AdminDoor, Reach
from polyroute.edge.http.app import App, Doors
from polyroute.edge.http.door import Door
from polyroute.edge.http.origin import Origins
from polyroute.edge.http.pages import Pages
from polyroute.edge.idempotency import wiring as idempotency
from polyroute.edge.idempotency.service import OnceGateway
from polyroute.edge.intents import Intents
from polyroute.edge.pressure import FIRST, Pressure, Sampler
from polyroute.edge.recorder import Recorder
from polyroute.edge.scarcity import Scarcity
from polyroute.edge.service import GatewayService
from polyroute.edge.settler import Settler, succeed
from polyroute.edge.strangers import Strangers
from polyroute.edge.things import Things
from polyroute.edge.turnstile import Turnstile
from polyroute.edge.usage.desk import UsageDesk
from polyroute.edge.usage.service import UsageService
from polyroute.mesh import life
from polyroute.mesh.background import Background
from polyroute.mesh.memory import memory_of
from polyroute.mesh.node import Node, Service
from polyroute.mesh.shipper import Shipper
from polyroute.mesh.spool import Spool

AUTO_WAITING: Final = 1024  # calls that may wait where the bound of those under way moves
SHIP_SECONDS: Final = 0.25  # that a record waits for company: a batch costs metrics far less than its records alone

_log = structlog.get_logger("edge")


class _Books:
    """What this process writes down: records, charges and intents, on its disk until the role that wants them has them.

    Args:
        node: The process.
        folder: This process's alone.
        most: Bytes of each spool.
    """

    def __init__(self, node: Node, folder: Path, most: int) -> None:
        self.metrics = MetricsServiceStub(node.channel("metrics"))
        self.ledger = LedgerServiceStub(node.channel("auth"))
        self.records = Spool(folder, max_bytes=most)
        self.charges = Spool(folder / "charges", max_bytes=most)
        self.intents = Intents(folder / "intents")
        self.settler = Settler(self.charges, self.ledger)
        self.recorder = Recorder(self.records, self.metrics, self.settler.charge)
        self.holder = life.name()
        self.former = succeed(folder / "holder", self.holder)

    @asynccontextmanager
    async def shipped(self) -> AsyncGenerator[None]:
        """Sends them while the body runs."""
        async with (
            Shipper(self.charges, self.settler.send, every=SHIP_SECONDS),  # the last to leave: records make charges
            Shipper(self.records, self.recorder.send, every=SHIP_SECONDS),
        ):
            yield

    def close(self) -> None:
        """Closes the files."""
        self.records.close()
        self.charges.close()
        self.intents.close()


@asynccontextmanager
async def role(node: Node, config: EdgeConfig, *, spool_dir: Path, shared: bool) -> AsyncGenerator[None]:
    """Opens the doors.

    Args:
        node: The process.
        config: Settings of the role.
        spool_dir: Where call records wait for metrics; this process's alone.
        shared: Other processes listen at the same HTTP address.
    """
    books = _Books(node, spool_dir, config.spool_bytes)
    memory = memory_of(config.max_memory_bytes)
    auth = AuthServiceStub(node.channel("auth"))
    allowances = _allowances(config, auth, books)
    clock = asyncio.get_running_loop().time
    strangers = Strangers(config.unknown_keys, clock, proxied=bool(config.http.trusted_proxies))
    authorizer = Authorizer(auth, config.authorize_seconds, clock, recalled=allowances.recall, strangers=strangers)
    flow = _flow(node, config, authorizer, books, allowances)
    once = idempotency.assembled(node, config, authorizer)
    gateway = OnceGateway(GatewayService(flow, config), once)
    door = Service(gateway_pb2_grpc.add_GatewayServiceServicer_to_server, gateway)
    listening = server.bind(config.http.listen, shared=shared)
    pages = Pages(node, flow, books.metrics, books.ledger)
    reach = Reach.of(config.http.admin, listening.getsockname()[0])
    app = _app(node, config, Door(flow, config, once), pages, AdminDoor(Administration(node.channel), reach))
    figures = (AllowanceFigures(allowances), CallFigures(flow.tally))
    for one in figures:
        node.registry.register(one)
    try:
        async with books.shipped(), Background() as tasks:
            _start(tasks, authorizer, allowances, books)
            tasks.start("sightings", flow.sightings.run)
            tasks.start("idempotency", once.claims.run)
            if memory is not None:
                tasks.start("memory", Scarcity(allowances.turnstile, memory).run)
            if config.max_calls == "auto":
                tasks.start("pressure", Sampler(allowances.turnstile, Pressure(), clock).run)
            async with (
                node.serve("edge", door, _usage(node, config), public=True, shared=shared),
                server.serving(app, config.http, listening, grace=node.config.drain_grace, hurry=node.hurry),
            ):
                host, port = listening.getsockname()[:2]
                node.bound["http"] = f"http://{f'[{host}]' if ':' in host else host}:{port}"
                _log.info("doors open", http=node.bound["http"], grpc=node.bound["edge"], admin=reach.value)
                yield
                pages.draining = True
                await node.linger(node.config.drain_delay)
            await flow.drains.close()
            await once.close()
            await allowances.close()  # before the last charges are shipped
    finally:
        for one in figures:
            node.registry.unregister(one)
        books.close()
        listening.close()


def _usage(node: Node, config: EdgeConfig) -> Service:
    clock = asyncio.get_running_loop().time
    reach = Reach.of(config.http.admin, config.grpc.listen.rpartition(":")[0].strip("[]"))
    service = UsageService(UsageDesk(node.channel, clock), reach, Throttle(clock))
    return Service(usage_pb2_grpc.add_UsageServiceServicer_to_server, service)


def _allowances(config: EdgeConfig, auth: AuthServiceStub, books: _Books) -> Allowances:
    clock = asyncio.get_running_loop().time
    return Allowances(
        auth,
        books.ledger,
        books.settler,
        clock,
        time.time,
        timeout=config.authorize_seconds,
        turnstile=_turnstile(config, clock),
        longest=config.total_seconds,
        holder=books.holder,
        intents=books.intents,
    )


def _flow(node: Node, config: EdgeConfig, authorizer: Authorizer, books: _Books, allowances: Allowances) -> Flow:
    return Flow(
        config,
        authorizer,
        RouterServiceStub(node.channel("router")),
        ProvidersServiceStub(node.channel("providers")),
        books.recorder,
        allowances,
        partial(node.reach, "providers", config.reach_seconds),
    )


def _app(node: Node, config: EdgeConfig, door: Door, pages: Pages, admin: AdminDoor) -> App:
    things = None if config.unmarked_ids else Things(KeptServiceStub(node.channel("metrics")), config.decide_seconds)
    origins = Origins(config.http) if config.http.trusted_proxies else None
    return App(Doors.of(door, things), pages, admin, origins)


def _start(tasks: Background, authorizer: Authorizer, allowances: Allowances, books: _Books) -> None:
    tasks.start("watch-revocations", authorizer.follow)
    tasks.start("allowances", allowances.run)
    tasks.start("records", books.recorder.run)
    tasks.start("checkpoints", allowances.checkpoints.run)
    tasks.start("end-former-life", partial(allowances.checkpoints.take_over, books.former))


def _turnstile(config: EdgeConfig, clock: Callable[[], float]) -> Turnstile:
    """Who waits when as many calls are under way as there may be."""
    most, waiting = (FIRST, AUTO_WAITING) if config.max_calls == "auto" else (config.max_calls, config.max_calls)
    return Turnstile(most, config.max_waiting or waiting, config.turn_seconds, clock)
