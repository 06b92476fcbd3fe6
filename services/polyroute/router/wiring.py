"""Builds the router role from its parts."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog

from polyroute.api.metrics.v1.metrics_pb2 import WatchStatsRequest, WatchStatsResponse
from polyroute.api.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from polyroute.api.providers.v1.providers_pb2 import WatchProvidersRequest, WatchProvidersResponse
from polyroute.api.providers.v1.providers_pb2_grpc import ProvidersServiceStub
from polyroute.api.router.v1.router_pb2_grpc import add_RouterServiceServicer_to_server
from polyroute.mesh.background import Background
from polyroute.mesh.node import Node, Service
from polyroute.mesh.source import Source
from polyroute.router.config import CatalogConfig, RouterConfig
from polyroute.router.figures import NO_STATS, stats_from
from polyroute.router.reload import Reloader
from polyroute.router.service import RouterService
from polyroute.router.snapshot import CatalogStore
from polyroute.router.watch import follow

_STATS_USABLE: Final = 60.0  # seconds without metrics: the figures are of one minute, so older ones say nothing
_log = structlog.get_logger("router")


@asynccontextmanager
async def role(
    node: Node,
    config: RouterConfig,
    *,
    load: Callable[[], CatalogConfig],
    source: Source,
) -> AsyncGenerator[None]:
    """Serves RouterService; ready once the providers were heard or `providers_wait` has passed.

    Args:
        node: The process.
        config: The intervals of this start.
        load: Reads the catalog; called here once and again when the source changes.
        source: Where the catalog comes from.

    Raises:
        CatalogError: The first catalog is wrong. Whatever `load` raises passes too.
    """
    store = CatalogStore(await asyncio.to_thread(load))
    reloader = Reloader(store, load)
    heard = asyncio.Event()
    async with node.serve(
        "router", Service(add_RouterServiceServicer_to_server, RouterService(store, clock=time.time))
    ):
        node.set_serving("router", serving=False)
        # inside of the serving: what may say `ready` has ended before the drain says `not ready`
        async with Background() as tasks:
            tasks.start("watch-providers", lambda: _watch_providers(node, store, heard))
            tasks.start("watch-stats", lambda: _watch_stats(node, store))
            tasks.start("reload-catalog", lambda: source.follow(reloader.reload, interval=config.reload_interval))
            tasks.start("become-ready", lambda: _become_ready(node, heard, config.providers_wait))
            yield


async def _become_ready(node: Node, heard: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await heard.wait()
    except TimeoutError:
        _log.warning("providers not heard, the configured ones are taken to be there", waited=seconds)
    node.set_serving("router", serving=True)


async def _watch_providers(node: Node, store: CatalogStore, heard: asyncio.Event) -> None:
    stub = ProvidersServiceStub(node.channel("providers"))

    def accept(message: WatchProvidersResponse) -> None:
        store.offer(message.providers)
        heard.set()

    await follow("providers", lambda: stub.WatchProviders(WatchProvidersRequest()), accept)


async def _watch_stats(node: Node, store: CatalogStore) -> None:
    stub = MetricsServiceStub(node.channel("metrics"))
    last = time.monotonic()

    def accept(message: WatchStatsResponse) -> None:
        nonlocal last
        last = time.monotonic()
        store.measure(stats_from(message))

    def lost() -> None:
        if time.monotonic() - last > _STATS_USABLE and store.view.stats is not NO_STATS:
            store.measure(NO_STATS)

    await follow("metrics", lambda: stub.WatchStats(WatchStatsRequest()), accept, lost=lost)
