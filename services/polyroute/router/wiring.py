"""Builds the router role from its parts."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import grpc
import structlog

from polyroute.api.auth.v1.admission_pb2 import AdmitRequest
from polyroute.api.auth.v1.admission_pb2_grpc import AdmissionServiceStub
from polyroute.api.auth.v1.changes_pb2 import RecordChangesRequest
from polyroute.api.auth.v1.changes_pb2_grpc import ChangeLogServiceStub
from polyroute.api.metrics.v1.metrics_pb2 import CallRecord, ListCallsRequest, WatchStatsRequest, WatchStatsResponse
from polyroute.api.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from polyroute.api.providers.v1.providers_pb2 import GenerateRequest, WatchProvidersRequest, WatchProvidersResponse
from polyroute.api.providers.v1.providers_pb2_grpc import ProvidersServiceStub
from polyroute.api.router.v1.router_pb2_grpc import add_RouterServiceServicer_to_server
from polyroute.mesh.background import Background
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import locate
from polyroute.mesh.errors import from_rpc
from polyroute.mesh.node import Node, Service
from polyroute.mesh.source import Source
from polyroute.router.asking import Asking, Ping
from polyroute.router.authors import APPLY_METHOD, Credentials, Identify
from polyroute.router.canary import Calls, Canary
from polyroute.router.circuits import Circuits
from polyroute.router.config import CatalogConfig, RouterConfig
from polyroute.router.document import CatalogFile
from polyroute.router.figures import NO_STATS, stats_from
from polyroute.router.health.tracker import Health
from polyroute.router.journal import Journal, Limits
from polyroute.router.reload import Reloader
from polyroute.router.rollout import overlaid
from polyroute.router.service import RouterService
from polyroute.router.snapshot import CatalogStore
from polyroute.router.steering import Steering
from polyroute.router.store import Store
from polyroute.router.telling import Tell, Telling
from polyroute.router.watch import follow

_STATS_USABLE: Final = 60.0  # seconds without metrics: the figures are of one minute, so older ones say nothing
_PING_SECONDS: Final = 10.0  # for an answer of one token
_LIST_SECONDS: Final = 5.0
_AUTH_SECONDS: Final = 5.0
_AWAY: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_JUDGED: Final = 2000  # newest calls of a model that a rollout is judged by
_MEGABYTE: Final = 1_000_000
_log = structlog.get_logger("router")


@asynccontextmanager
async def role(
    node: Node,
    config: RouterConfig,
    *,
    load: Callable[[], CatalogConfig],
    source: Source,
    data_dir: Path,
    file: CatalogFile | None = None,
    redis: str = "",
    database: DatabaseConfig | None = None,
) -> AsyncGenerator[None]:
    """Serves RouterService; ready once the providers were heard or `providers_wait` has passed.

    Args:
        node: The process.
        config: The intervals of this start.
        load: Reads the catalog; called here once and again when the source changes.
        source: Where the catalog comes from.
        data_dir: Folder of `router.db`: decisions, versions of the catalog, rollouts.
        file: The same as a file that operators may have written; None when there is none.
        redis: URL of the server by which routers tell each other what rests; empty for none.
        database: The database of all services; None means the file.

    Raises:
        CatalogError: The first catalog is wrong. Whatever `load` raises passes too.
    """
    async with Store.open(locate("router", data_dir, shared=database)) as store:
        written = await asyncio.to_thread(load)
        rows = {row.alias: row for row in await store.rollouts()}
        catalogs = CatalogStore(overlaid(written, rows))
        telling = Telling(store, _tell(node))
        reloader = Reloader(catalogs, written, rows, load, store, clock=time.time, file=file, recorded=telling.wake)
        limits = Limits(config.journal.days, config.journal.max_megabytes * _MEGABYTE)
        journal = Journal(store, limits, clock=time.time)
        canary = Canary(reloader, catalogs, store, _calls(node), interval=config.rollout_interval, clock=time.time)
        heard = asyncio.Event()
        health = Health()
        steering = Steering(catalogs, health, enabled=config.health)
        asking = Asking(health, catalogs, _ping(node))
        service = RouterService(catalogs, journal, reloader, store, steering, _who(node), clock=time.time)
        circuits = Circuits(health)
        node.registry.register(circuits)
        try:
            async with node.serve("router", Service(add_RouterServiceServicer_to_server, service)):
                node.set_serving("router", serving=False)
                # inside of the serving: what may say `ready` has ended before the drain says `not ready`
                async with Background() as tasks:
                    tasks.start("watch-providers", lambda: _watch_providers(node, catalogs, steering, heard))
                    tasks.start("watch-stats", lambda: _watch_stats(node, catalogs, steering))
                    tasks.start(
                        "reload-catalog", lambda: source.follow(reloader.reload, interval=config.reload_interval)
                    )
                    tasks.start("ask-deployments", asking.run)
                    tasks.start("journal", journal.run)
                    tasks.start("tell-changes", telling.run)
                    if redis:
                        tasks.start("share-cooldowns", lambda: _share(health, redis))
                    tasks.start("trim-journal", journal.trim)
                    tasks.start("become-ready", lambda: _become_ready(node, heard, config.providers_wait))
                    tasks.start("canary", lambda: _when_heard(heard, config.providers_wait, canary))
                    yield
        finally:
            node.registry.unregister(circuits)
            await journal.flush()  # after the last decision


async def _share(health: Health, url: str) -> None:
    """Tells other routers what rests, over their common Redis."""
    from polyroute.router import sharing  # a Redis client is for those who have one

    client = sharing.connect(url)
    try:
        await sharing.Sharing(health, sharing.RedisBoard(client)).run()
    finally:
        await client.aclose()


async def _become_ready(node: Node, heard: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await heard.wait()
    except TimeoutError:
        _log.warning("providers not heard, the configured ones are taken to be there", waited=seconds)
    node.set_serving("router", serving=True)


async def _when_heard(heard: asyncio.Event, seconds: float, canary: Canary) -> None:
    """Begins with what the providers said of themselves: what is recorded before is not what answers name."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await heard.wait()
    await canary.run()


def _tell(node: Node) -> Tell:
    stub = ChangeLogServiceStub(node.channel("auth"))

    async def tell(request: RecordChangesRequest) -> None:
        try:
            await stub.RecordChanges(request, timeout=_AUTH_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None

    return tell


def _who(node: Node) -> Identify:
    stub = AdmissionServiceStub(node.channel("auth"))

    async def identify(metadata: Credentials) -> str:
        try:
            admitted = await stub.Admit(AdmitRequest(method=APPLY_METHOD), timeout=_AUTH_SECONDS, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() in _AWAY:
                _log.warning("nobody says who changes the catalog", reason=error.details())
                return ""
            raise from_rpc(error) from None
        return str(admitted.actor)

    return identify


def _ping(node: Node) -> Ping:
    stub = ProvidersServiceStub(node.channel("providers"))

    async def there(question: GenerateRequest) -> bool:
        stream = stub.Generate(question, timeout=_PING_SECONDS)
        try:
            return any([event.HasField("chat") async for response in stream for event in response.events])
        except grpc.aio.AioRpcError as error:
            _log.info("deployment still out", deployment=question.target.deployment, reason=error.details())
            return False
        finally:
            stream.cancel()

    return there


def _calls(node: Node) -> Calls:
    stub = MetricsServiceStub(node.channel("metrics"))

    async def newest(model: str, since: float) -> list[CallRecord]:
        request = ListCallsRequest(model=model, page_size=1000)
        request.start_time.FromMicroseconds(int(since * 1e6))
        found: list[CallRecord] = []
        try:
            while len(found) < _JUDGED:
                page = await stub.ListCalls(request, timeout=_LIST_SECONDS)
                found += page.records
                request.page_token = page.next_page_token
                if not page.next_page_token:
                    break
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None
        return found

    return newest


async def _watch_providers(node: Node, store: CatalogStore, steering: Steering, heard: asyncio.Event) -> None:
    stub = ProvidersServiceStub(node.channel("providers"))

    def accept(message: WatchProvidersResponse) -> None:
        store.offer(message.providers)
        steering.opened(message.providers)
        heard.set()

    await follow("providers", lambda: stub.WatchProviders(WatchProvidersRequest()), accept)


async def _watch_stats(node: Node, store: CatalogStore, steering: Steering) -> None:
    stub = MetricsServiceStub(node.channel("metrics"))
    last = time.monotonic()

    def accept(message: WatchStatsResponse) -> None:
        nonlocal last
        last = time.monotonic()
        steering.pushed(message)
        store.measure(stats_from(message))

    def lost() -> None:
        if time.monotonic() - last > _STATS_USABLE and store.view.stats is not NO_STATS:
            store.measure(NO_STATS)

    await follow("metrics", lambda: stub.WatchStats(WatchStatsRequest()), accept, lost=lost)
