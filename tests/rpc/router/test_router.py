"""The router behind each kind of channel, between providers and metrics that behave as they are told."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from polyroute.api.chat.v1.chat_pb2 import CAPABILITY_TOOLS, OPERATION_CHAT, OPERATION_EMBEDDING
from polyroute.api.errors.v1.errors_pb2 import (
    REASON_INVALID_REQUEST,
    REASON_MODEL_NOT_FOUND,
    REASON_NO_DEPLOYMENT,
    REASON_NOT_FOUND,
)
from polyroute.api.metrics.v1.metrics_pb2_grpc import add_MetricsServiceServicer_to_server
from polyroute.api.providers.v1.providers_pb2 import KnownModel, Provider
from polyroute.api.providers.v1.providers_pb2_grpc import add_ProvidersServiceServicer_to_server
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceStub
from polyroute.mesh.config import MeshConfig
from polyroute.mesh.errors import MeshError, from_rpc
from polyroute.mesh.node import Node, Service
from polyroute.mesh.source import Source
from polyroute.router.config import RouterConfig
from polyroute.router.document import CatalogFile
from polyroute.router.explaining import replay
from polyroute.router.wiring import role
from tests.fakes.catalogs import ask, read
from tests.fakes.metrics import FakeMetrics
from tests.fakes.providers import FakeProviders

TIMEOUT = 5
CATALOG = """\
models:
  m:
    deployments:
      - {provider: p, model: a, price: {input: 2, output: 10}, capabilities: [tools], context: 1000}
      - {provider: q, model: b, price: {input: 1, output: 9}, max_output: 50}
  e: {operations: [embedding], deployments: [p/e]}
aliases: {fast: {m: 9, e: 1}}
"""
TINY = Provider(name="local", discovered=True, models=[KnownModel(id="tiny", operations=[OPERATION_CHAT])])
PROVIDERS = (Provider(name="p"), Provider(name="q"), TINY)


@dataclass
class Mesh:
    """A router, and hands on everything around it."""

    kind: str
    run: Path
    providers: FakeProviders = field(
        default_factory=lambda: FakeProviders(Provider(name="p"), Provider(name="q"), TINY)
    )
    metrics: FakeMetrics = field(default_factory=FakeMetrics)
    source: Source = field(default_factory=lambda: Source(None))
    text: str = CATALOG
    node: Node = field(init=False)
    stub: RouterServiceStub = field(init=False)

    @property
    def file(self) -> Path:
        """The configuration file as operators' commands see it."""
        return self.run / "polyroute.yaml"

    @asynccontextmanager
    async def running(self, *, peers: bool = True, wait: float = 5.0) -> AsyncGenerator[None]:
        """Starts the router and, unless told otherwise, the roles it watches."""
        self.run.mkdir(exist_ok=True)
        self.file.write_text(self.text)
        async with AsyncExitStack() as stack:
            around = self._node(frozenset({"providers", "metrics"} | ({"router"} if self.kind == "local" else set())))
            stack.push_async_callback(around.close)
            if peers:
                await stack.enter_async_context(
                    around.serve("providers", Service(add_ProvidersServiceServicer_to_server, self.providers))
                )
                await stack.enter_async_context(
                    around.serve("metrics", Service(add_MetricsServiceServicer_to_server, self.metrics))
                )
            self.node = around if self.kind == "local" else self._node(frozenset({"router"}), around.bound)
            stack.push_async_callback(self.node.close)
            await stack.enter_async_context(
                role(
                    self.node,
                    RouterConfig(providers_wait=wait),
                    load=lambda: read(self.text),
                    source=self.source,
                    data_dir=self.run,
                    file=CatalogFile(self.file, lambda path: read(path.read_text())),
                )
            )
            client = self.node if self.kind == "local" else self._node(frozenset(), self.node.bound)
            stack.push_async_callback(client.close)
            self.stub = RouterServiceStub(client.channel("router"))
            yield

    def _node(self, roles: frozenset[str], peers: dict[str, str] | None = None) -> Node:
        listen = dict.fromkeys(roles, "127.0.0.1:0") if self.kind == "tcp" else {}
        return Node(MeshConfig(listen=listen, peers=peers or {}, drain_delay=0, drain_grace=0.2), roles, self.run)

    async def until(self, seen: Callable[[], Awaitable[bool]]) -> None:
        """Asks until the answer is yes; the test's time limit ends it otherwise."""
        async with asyncio.timeout(TIMEOUT):
            while not await seen():
                await asyncio.sleep(0.005)

    async def decided(self, model: str, request_id: str = "r-1", **facts: object) -> list[str]:
        """The deployments of a plan, or the refusal's message."""
        try:
            response = await self.stub.Decide(ask(model, request_id, **facts), timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            return [from_rpc(error).message]
        return [attempt.deployment for attempt in response.plan.attempts]

    async def status(self) -> pb.GetCatalogStatusResponse:
        """The catalog's state."""
        return await self.stub.GetCatalogStatus(pb.GetCatalogStatusRequest(), timeout=TIMEOUT)


@pytest.fixture
def mesh(kind: str, tmp_path: Path) -> Mesh:
    """A router that is not started yet."""
    return Mesh(kind, tmp_path / "run")


async def refused(call: Awaitable[object]) -> MeshError:
    """What a call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc(caught.value)


async def ready(mesh: Mesh) -> bool:
    """Whether the router says that it can serve."""
    return await mesh.node.healthy("router")


async def test_decides_over_configured_and_found_models(mesh: Mesh) -> None:
    """Once ready, the router knows what was written and what was found."""
    async with mesh.running():
        await mesh.until(lambda: ready(mesh))

        assert {"p/a", "q/b"} == set(await mesh.decided("m"))
        assert ["local/tiny"] == await mesh.decided("tiny")
        assert await mesh.decided("m") == await mesh.decided("m")


async def test_refusals_carry_their_reason(mesh: Mesh) -> None:
    """Unknown model, nobody able: each has its reason and code."""
    async with mesh.running():
        await mesh.until(lambda: ready(mesh))
        unknown = await refused(mesh.stub.Decide(ask("tinny"), timeout=TIMEOUT))
        unable = await refused(mesh.stub.Decide(ask("e", needs=[CAPABILITY_TOOLS]), timeout=TIMEOUT))

    assert (REASON_MODEL_NOT_FOUND, grpc.StatusCode.NOT_FOUND) == (unknown.reason, unknown.code)
    assert "unknown model 'tinny', did you mean 'tiny'?" == unknown.message
    assert (REASON_NO_DEPLOYMENT, grpc.StatusCode.FAILED_PRECONDITION) == (unable.reason, unable.code)


@pytest.mark.parametrize("kind", ["unix", "tcp"], indirect=True)  # rules are checked for other processes
async def test_malformed_request_is_refused(mesh: Mesh) -> None:
    """A request against the contract's rules does not reach the service."""
    async with mesh.running():
        await mesh.until(lambda: ready(mesh))
        malformed = await refused(mesh.stub.Decide(pb.DecideRequest(request_id="x"), timeout=TIMEOUT))

    assert REASON_INVALID_REQUEST == malformed.reason


async def test_lists_models_and_aliases(mesh: Mesh) -> None:
    """Everything a caller may name, with what is known of it."""
    async with mesh.running():
        await mesh.until(lambda: ready(mesh))
        every = await mesh.stub.ListModels(pb.ListModelsRequest(), timeout=TIMEOUT)
        vectors = await mesh.stub.ListModels(pb.ListModelsRequest(operation=OPERATION_EMBEDDING), timeout=TIMEOUT)
        status = await mesh.status()

    models = {model.name: model for model in every.models}
    assert ["m", "e", "tiny", "fast"] == list(models)
    assert ["e", "fast"] == [model.name for model in vectors.models]
    m = models["m"]
    assert (["p", "q"], 1000, 50) == (list(m.providers), m.context_tokens, m.max_output_tokens)
    assert (1_000_000_000, 9_000_000_000) == (m.price.input, m.price.output)
    assert [CAPABILITY_TOOLS] == list(m.capabilities)
    assert not models["tiny"].HasField("price")
    assert ["m", "e"] == list(models["fast"].alias_of)
    assert (every.catalog_version, 3, 4, "") == (status.version, status.models, status.deployments, status.error)


async def test_reload_takes_a_good_catalog_and_refuses_a_bad_one(mesh: Mesh) -> None:
    """The signal has the source read again; a bad one is told and changes nothing."""

    async def error_told() -> bool:
        return bool((await mesh.status()).error)

    async def renamed() -> bool:
        return await mesh.decided("n") == ["p/a"]

    async with mesh.running():
        await mesh.until(lambda: ready(mesh))
        version = (await mesh.status()).version
        mesh.text = "{models: {n: {deployments: [nobody/a]}}}"
        mesh.source.wanted.set()
        await mesh.until(error_told)
        status = await mesh.status()
        mesh.text = "{models: {n: {deployments: [p/a]}}}"
        mesh.source.wanted.set()
        await mesh.until(renamed)

        assert version == status.version
        assert "models.n.deployments[0].provider: unknown provider 'nobody'" == status.error
        assert "" == (await mesh.status()).error


async def test_providers_changes_are_heard(mesh: Mesh) -> None:
    """A provider that cannot serve is left out at once, and tried again when it can."""
    away = Provider(name="p", unavailable="no key")

    async def only_q() -> bool:
        return await mesh.decided("m") == ["q/b"]

    async def both() -> bool:
        return set(await mesh.decided("m")) == {"p/a", "q/b"}

    async with mesh.running():
        await mesh.until(both)
        await mesh.providers.offer(away, Provider(name="q"))
        await mesh.until(only_q)
        await mesh.providers.offer(Provider(name="p"), Provider(name="q"))
        await mesh.until(both)


async def test_last_word_of_the_providers_stands_while_they_are_away(mesh: Mesh) -> None:
    """The watch breaks: decisions go on, the watch is opened again, and what changed meanwhile arrives."""

    async def more() -> bool:
        return await mesh.decided("more") == ["late/more"]

    async with mesh.running():
        await mesh.until(lambda: ready(mesh))
        await mesh.providers.break_watches(grpc.StatusCode.UNAVAILABLE)
        during = await mesh.decided("tiny")
        late = Provider(name="late", discovered=True, models=[KnownModel(id="more")])
        await mesh.providers.offer(Provider(name="p"), Provider(name="q"), late)
        await mesh.providers.break_watches(None)
        await mesh.until(more)

    assert ["local/tiny"] == during
    assert 1 < mesh.providers.watches


async def test_live_figures_move_traffic(mesh: Mesh) -> None:
    """A deployment that fails half of its calls goes last, until it recovers."""

    async def first() -> set[str]:
        return {(await mesh.decided("m", f"r-{i}"))[0] for i in range(20)}

    async def only_q_first() -> bool:
        return await first() == {"q/b"}

    async def both_first() -> bool:
        return await first() == {"p/a", "q/b"}

    async with mesh.running():
        await mesh.until(both_first)
        await mesh.metrics.push({"p/a": 0.2, "q/b": 1.0})
        await mesh.until(only_q_first)
        request = ask("m")
        request.explain = True
        record = (await mesh.stub.Decide(request, timeout=TIMEOUT)).record
        await mesh.metrics.push({"p/a": 0.8, "q/b": 1.0})
        await mesh.until(both_first)

    assert 1 == record.stats_version
    assert [0.2, 1.0] == [candidate.figures.recent_success_rate for candidate in record.candidates]


async def test_full_record_replays_wherever_it_went(mesh: Mesh) -> None:
    """What crossed the wire decides the same, with no catalog at hand."""
    request = ask("m:price", input_tokens_estimate=100)
    request.preferences.max_price.output = 9_500_000_000
    request.explain = True
    async with mesh.running():
        await mesh.until(lambda: ready(mesh))
        response = await mesh.stub.Decide(request, timeout=TIMEOUT)

    assert ["q/b"] == [attempt.deployment for attempt in response.plan.attempts]
    assert response.plan == replay(response.record).plan
    assert ["10 USD per million of at most 9.5", "9 USD per million of at most 9.5"] == [
        next(one.observed for one in candidate.verdicts if one.filter == "max_price.output")
        for candidate in response.record.candidates
    ]


async def test_preview_of_a_schedule(mesh: Mesh) -> None:
    """An operator asks what would rule at some moment, before trusting a calendar."""
    mesh.text = f"""{CATALOG}
policies: {{quick: {{sort: latency}}}}
routing:
  schedules:
    office:
      zone: Asia/Shanghai
      windows: [{{days: mon, start: "09:00", end: "18:00", policy: quick}}]
      otherwise: default
"""
    request = pb.PreviewPolicyRequest(name="office")
    request.time.FromJsonString("2026-03-02T01:00:00Z")
    async with mesh.running():
        await mesh.until(lambda: ready(mesh))
        response = await mesh.stub.PreviewPolicy(request, timeout=TIMEOUT)
        now = await mesh.stub.PreviewPolicy(pb.PreviewPolicyRequest(), timeout=TIMEOUT)
        unknown = await refused(mesh.stub.PreviewPolicy(pb.PreviewPolicyRequest(name="x"), timeout=TIMEOUT))
        status = await mesh.status()

    assert ("quick", "mon 09:00-18:00 Asia/Shanghai") == (response.policy, response.reason)
    assert "2026-03-02T10:00:00Z" == response.until.ToJsonString()
    assert ("default", False) == (now.policy, now.HasField("until"))
    assert REASON_NOT_FOUND == unknown.reason
    assert ["routing.schedules.office: nothing names it", "policies.quick: nothing names it"] == list(
        status.warnings[:2]
    )
    assert status.warnings[2].startswith("models: no price is known of p/e: ")


async def test_router_alone_is_ready_after_its_wait(mesh: Mesh) -> None:
    """Nobody is there: the configured providers are believed in, and metrics is not missed."""
    async with mesh.running(peers=False, wait=0.05):
        before = await ready(mesh)
        await mesh.until(lambda: ready(mesh))

        assert not before
        assert {"p/a", "q/b"} == set(await mesh.decided("m"))


async def test_role_does_not_start_on_a_catalog_that_lies(mesh: Mesh) -> None:
    """The first catalog has none to fall back on."""
    mesh.text = "{aliases: {a: a}}"

    with pytest.raises(ValueError, match="stands for itself"):
        async with mesh.running():
            pass


async def test_decisions_are_kept(mesh: Mesh) -> None:
    """Each decision can be asked for by its call, replays, and is in the list; a dry run is not."""
    dry = ask("m", "r-dry")
    dry.dry_run = True
    async with mesh.running():
        await mesh.until(lambda: ready(mesh))
        issued = await mesh.stub.Decide(ask("m:price", "r-1"), timeout=TIMEOUT)
        await mesh.stub.Decide(dry, timeout=TIMEOUT)
        kept = await mesh.stub.Explain(pb.ExplainRequest(request_id="r-1"), timeout=TIMEOUT)
        listed = await mesh.stub.ListDecisions(pb.ListDecisionsRequest(), timeout=TIMEOUT)
        unknown = await refused(mesh.stub.Explain(pb.ExplainRequest(request_id="r-dry"), timeout=TIMEOUT))

    assert issued.plan == kept.plan == replay(kept.record).plan
    assert ["r-1"] == [record.request_id for record in listed.records]
    assert REASON_NOT_FOUND == unknown.reason


async def test_decisions_outlive_the_process(mesh: Mesh) -> None:
    """What was decided just before an orderly stop is there after the start."""
    async with mesh.running():
        await mesh.until(lambda: ready(mesh))
        issued = await mesh.stub.Decide(ask("m", "r-1"), timeout=TIMEOUT)
    mesh.text = "{models: {other: {deployments: [p/z]}}}"
    async with mesh.running():
        await mesh.until(lambda: ready(mesh))
        kept = await mesh.stub.Explain(pb.ExplainRequest(request_id="r-1"), timeout=TIMEOUT)

    assert issued.plan == kept.plan


async def test_versions_of_the_catalog(mesh: Mesh) -> None:
    """What is applied is in force at once, on record, and can be had again; what is wrong is refused."""
    text = "models: {n: {deployments: [p/a]}}\n"
    async with mesh.running():
        await mesh.until(lambda: ready(mesh))
        await mesh.until(lambda: recorded(mesh, 1))
        first = await mesh.stub.GetCatalogVersion(pb.GetCatalogVersionRequest(), timeout=TIMEOUT)
        request = pb.ApplyCatalogRequest(text=text, author="ann", note="less")
        applied = await mesh.stub.ApplyCatalog(request, timeout=TIMEOUT)
        plan = await mesh.decided("n")
        listed = await mesh.stub.ListCatalogVersions(pb.ListCatalogVersionsRequest(), timeout=TIMEOUT)
        named = pb.GetCatalogVersionRequest(version=applied.version.version)
        found = await mesh.stub.GetCatalogVersion(named, timeout=TIMEOUT)
        bad = await refused(mesh.stub.ApplyCatalog(pb.ApplyCatalogRequest(text="aliases: {a: a}\n"), timeout=TIMEOUT))
        none = await refused(mesh.stub.GetCatalogVersion(pb.GetCatalogVersionRequest(version="77"), timeout=TIMEOUT))
        status = await mesh.status()

    assert CATALOG == first.version.text
    assert ["p/a"] == plan
    assert [(2, "ann", "less", ""), (1, "file", "", "")] == [
        (one.number, one.author, one.note, one.text) for one in listed.versions
    ]
    assert text == found.version.text == mesh.file.read_text()
    assert (REASON_INVALID_REQUEST, "aliases.a: stands for itself, by way of 'a'") == (bad.reason, bad.message)
    assert REASON_NOT_FOUND == none.reason
    assert (2, applied.version.version) == (status.number, status.version)


async def test_prices_are_listed(mesh: Mesh) -> None:
    """What each deployment charges, who says so, and when that changes; at another moment too."""
    mesh.text = f"""{CATALOG}
prices: {{models: {{p/e: [{{input: 3, output: 0}}, {{input: 4, output: 0, effective_from: 2999-01-01}}]}}}}
"""
    later = pb.ListPricesRequest(provider="p", model="e")
    later.time.FromJsonString("2999-01-01T00:00:00Z")
    async with mesh.running():
        await mesh.until(lambda: ready(mesh))
        listed = await mesh.stub.ListPrices(pb.ListPricesRequest(), timeout=TIMEOUT)
        then = await mesh.stub.ListPrices(later, timeout=TIMEOUT)
        missing = await mesh.stub.ListPrices(pb.ListPricesRequest(missing=True), timeout=TIMEOUT)

    assert [("p/a", "catalog"), ("q/b", "catalog"), ("p/e", "prices"), ("local/tiny", "")] == [
        (one.deployment, one.origin) for one in listed.prices
    ]
    assert "2999-01-01T00:00:00Z" == listed.prices[2].until.ToJsonString()
    assert [4_000_000_000] == [one.price.input for one in then.prices]
    assert ["local/tiny"] == [one.deployment for one in missing.prices]


async def test_a_file_that_cannot_be_written(mesh: Mesh) -> None:
    """Mounted read-only, say: the commands are refused with the reason."""
    async with mesh.running():
        await mesh.until(lambda: ready(mesh))
        mesh.file.unlink()
        error = await refused(mesh.stub.ApplyCatalog(pb.ApplyCatalogRequest(text=CATALOG), timeout=TIMEOUT))

    assert grpc.StatusCode.FAILED_PRECONDITION == error.code
    assert "cannot be written" in error.message


async def recorded(mesh: Mesh, number: int) -> bool:
    """Whether so many versions are on record."""
    return bool((await mesh.status()).number == number)
