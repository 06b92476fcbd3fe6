"""The roles around the edge, as servicers behind a channel of this process: they do what a test tells them to."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from polyroute.api.auth.v1 import auth_pb2, auth_pb2_grpc
from polyroute.api.auth.v1.auth_pb2 import AuthorizeRequest, AuthorizeResponse, Caller, Verdict
from polyroute.api.auth.v1.ledger_pb2 import Settlement
from polyroute.api.chat.v1.chat_pb2 import FINISH_REASON_STOP, OPERATION_CHAT, EncodedRequest, RequestFacts, Usage
from polyroute.api.errors.v1.errors_pb2 import REASON_USAGE_UNAVAILABLE
from polyroute.api.metrics.v1.metrics_pb2 import CallRecord
from polyroute.api.providers.v1 import providers_pb2, providers_pb2_grpc
from polyroute.api.providers.v1.providers_pb2 import (
    EncodedContent,
    Finished,
    GenerateEvent,
    GenerateResponse,
    Started,
)
from polyroute.api.router.v1 import router_pb2, router_pb2_grpc
from polyroute.api.router.v1.router_pb2 import Attempt, DecisionRecord, Plan, Price
from polyroute.edge.allowance import Allowances
from polyroute.edge.authorizer import Authorizer
from polyroute.edge.call import Call
from polyroute.edge.config import EdgeConfig
from polyroute.edge.flow import Flow
from polyroute.edge.recorder import Recorder
from polyroute.edge.settler import Settler
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError
from polyroute.mesh.guard import Guard, Method
from polyroute.mesh.inprocess.channel import LocalChannel
from polyroute.mesh.inprocess.server import LocalServer
from polyroute.mesh.telemetry import RpcMetrics

Context = grpc.aio.ServicerContext[Any, Any]
KEY = "pr-good"
CALLER = Caller(account_id="acc_1", project_id="prj_1", key_id="key_1")
PRICE = Price(input=2_000_000_000, output=10_000_000_000, version="v1")
FACTS = RequestFacts(operation=OPERATION_CHAT, model="m", stream=True, input_tokens_estimate=7)
BODY = EncodedRequest(dialect="openai.chat", body=b'{"model":"m","messages":[]}')

Wait = asyncio.Event
Step = GenerateResponse | Exception | Wait


class Clock:
    """A clock that moves when told to."""

    def __init__(self, at: float = 1000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += seconds


def local(add: Callable[[Any, Any], None], servicer: object) -> LocalChannel:
    """A channel to a servicer, with the mesh's guard around it."""
    server = LocalServer()
    guard = Guard(RpcMetrics(CollectorRegistry()))

    class Registrar:
        def add_generic_rpc_handlers(self, handlers: object) -> None: ...

        def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
            for name, handler in handlers.items():
                method = Method(service, name)
                if handler.response_streaming:
                    server.add({method.path: guard.stream(method, handler.unary_stream)})
                else:
                    server.add({method.path: guard.unary(method, handler.unary_unary)})

    add(servicer, Registrar())
    return LocalChannel(server)


class FakeAuth(auth_pb2_grpc.AuthServiceServicer):
    """Knows the keys it is given; pushes what it is told to push."""

    def __init__(self) -> None:
        self.verdicts = {KEY: verdict()}
        self.asked = 0
        self.failure: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.watched: list[int] = []  # the revision that each watch began with
        self._pushes: asyncio.Queue[auth_pb2.WatchRevocationsResponse | Exception] = asyncio.Queue()

    def stub(self) -> auth_pb2_grpc.AuthServiceStub:
        return auth_pb2_grpc.AuthServiceStub(local(auth_pb2_grpc.add_AuthServiceServicer_to_server, self))

    async def Authorize(self, request: AuthorizeRequest, context: Context) -> AuthorizeResponse:
        self.asked += 1
        found = self.verdicts.get(request.credential)
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        if found is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "told to")
        return AuthorizeResponse(verdict=found)

    def push(self, revision: int, *key_ids: str, reset: bool = False) -> None:
        self._pushes.put_nowait(auth_pb2.WatchRevocationsResponse(revision=revision, key_ids=key_ids, reset=reset))

    def cut(self, error: Exception) -> None:
        self._pushes.put_nowait(error)

    async def WatchRevocations(
        self, request: auth_pb2.WatchRevocationsRequest, context: Context
    ) -> AsyncGenerator[auth_pb2.WatchRevocationsResponse]:
        self.watched.append(request.revision)
        while True:
            pushed = await self._pushes.get()
            if isinstance(pushed, Exception):
                raise pushed
            yield pushed


def verdict(*, fresh: int = 30, usable: int = 300, key_id: str = "key_1", models: Sequence[str] = ()) -> Verdict:
    found = Verdict(caller=Caller(key_id=key_id), models=models)
    found.caller.MergeFrom(Caller(account_id="acc_1", project_id="prj_1"))
    found.fresh_for.FromSeconds(fresh)
    found.usable_for.FromSeconds(usable)
    return found


class FakeRouter(router_pb2_grpc.RouterServiceServicer):
    """Plans `deployments` in their order, or fails."""

    def __init__(self, *deployments: str, most: int = 3) -> None:
        self.plan = Plan(
            attempts=[
                Attempt(deployment=name, provider=name.split("/")[0], upstream_model=name.split("/")[1], price=PRICE)
                for name in deployments
            ],
            max_attempts=most,
            model="m",
        )
        self.failure: Exception | None = None
        self.requests: list[router_pb2.DecideRequest] = []
        self.reports: list[router_pb2.ReportRequest] = []

    def stub(self) -> router_pb2_grpc.RouterServiceStub:
        return router_pb2_grpc.RouterServiceStub(local(router_pb2_grpc.add_RouterServiceServicer_to_server, self))

    async def Decide(self, request: router_pb2.DecideRequest, context: Context) -> router_pb2.DecideResponse:
        self.requests.append(request)
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return router_pb2.DecideResponse(plan=self.plan, record=DecisionRecord(catalog_version="c1"))

    async def Report(self, request: router_pb2.ReportRequest, context: Context) -> router_pb2.ReportResponse:
        self.reports.append(request)
        if self.failure is not None:
            raise self.failure
        return router_pb2.ReportResponse()

    async def ListModels(
        self, request: router_pb2.ListModelsRequest, context: Context
    ) -> router_pb2.ListModelsResponse:
        if self.failure is not None:
            raise self.failure
        return router_pb2.ListModelsResponse(models=[router_pb2.Model(name=name) for name in ("m", "n")])


class FakeProviders(providers_pb2_grpc.ProvidersServiceServicer):
    """Plays one script per attempt; waits one turn of the loop before each step."""

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self.scripts = deque(scripts)
        self.requests: list[Any] = []
        self.open = 0  # attempts that are going on
        self.said = 0  # steps taken

    def stub(self) -> providers_pb2_grpc.ProvidersServiceStub:
        add = providers_pb2_grpc.add_ProvidersServiceServicer_to_server
        return providers_pb2_grpc.ProvidersServiceStub(local(add, self))

    async def Generate(
        self, request: providers_pb2.GenerateRequest, context: Context
    ) -> AsyncGenerator[GenerateResponse]:
        self.requests.append(request)
        self.open += 1
        try:
            for step in self.scripts.popleft():
                await asyncio.sleep(0)
                self.said += 1
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, Wait):
                    await step.wait()
                else:
                    yield step
        finally:
            self.open -= 1

    async def Embed(self, request: providers_pb2.EmbedRequest, context: Context) -> providers_pb2.EmbedResponse:
        self.requests.append(request)
        self.open += 1
        try:
            await asyncio.sleep(0)
            step = self.scripts.popleft()[0]
            if isinstance(step, Exception):
                raise step
            return providers_pb2.EmbedResponse(encoded=b"{}", usage=Usage(input_tokens=3), total_microseconds=10)
        finally:
            self.open -= 1


class MemorySpool:
    """A spool whose disk fails on request."""

    def __init__(self) -> None:
        self.pending = 0  # of a life before
        self.payloads: list[bytes] = []
        self.nearly_full = False
        self.failure: Exception | None = None

    def append(self, payload: bytes) -> None:
        if self.failure is not None:
            raise self.failure
        self.payloads.append(payload)

    def extend(self, payloads: Sequence[bytes]) -> None:
        if self.failure is not None:
            raise self.failure
        self.payloads += payloads

    def check(self) -> None:
        if self.nearly_full:  # what an append will find is not known before
            raise MeshError(REASON_USAGE_UNAVAILABLE, "the disk is nearly full")

    @property
    def records(self) -> list[CallRecord]:
        return [CallRecord.FromString(payload) for payload in self.payloads]


def charges_of(records: Sequence[CallRecord]) -> list[Settlement]:
    """What the ledger is told of calls, from their records."""
    spool = MemorySpool()
    Settler(spool, None).charge(records)  # type: ignore[arg-type] # what of a spool is used
    return [Settlement.FromString(payload) for payload in spool.payloads]


def started(data: bytes = b"") -> GenerateResponse:
    """The vendor began; what came with it has no content."""
    return GenerateResponse(events=[GenerateEvent(started=Started(upstream_microseconds=1)), *_encoded(data, 0)])


def said(data: bytes, count: int = 1) -> GenerateResponse:
    """Content."""
    return GenerateResponse(events=_encoded(data, count))


def _encoded(data: bytes, count: int) -> list[GenerateEvent]:
    return [GenerateEvent(encoded=EncodedContent(data=data, content_events=count))] if data else []


def finished(data: bytes = b"", **usage: int) -> GenerateResponse:
    """The end, with what it used."""
    done = Finished(reason=FINISH_REASON_STOP, first_token_microseconds=5, total_microseconds=9)
    used = Usage(**(usage or {"input_tokens": 3, "output_tokens": 2}))  # type: ignore[arg-type] # counts only
    return GenerateResponse(
        events=[*_encoded(data, 1 if data else 0), GenerateEvent(usage=used), GenerateEvent(finished=done)]
    )


def data_of(responses: Sequence[GenerateResponse]) -> bytes:
    """What a client would have read."""
    return b"".join(event.encoded.data for response in responses for event in response.events)


async def _there() -> None:
    """The providers are always there."""


@dataclass
class House:
    """A flow and everything around it."""

    scripts: Sequence[Sequence[Step]] = ()
    deployments: Sequence[str] = ("a/x", "b/y", "c/z")
    auth: FakeAuth = field(default_factory=FakeAuth)
    spool: MemorySpool = field(default_factory=MemorySpool)
    seconds: float = 60.0
    facts: RequestFacts = field(default_factory=lambda: FACTS)

    def __post_init__(self) -> None:
        self.router = FakeRouter(*self.deployments)  # type: ignore[abstract] # has what the edge calls
        self.providers = FakeProviders(*self.scripts)  # type: ignore[abstract] # has what the edge calls
        self.flow = Flow(
            EdgeConfig(),
            Authorizer(self.auth.stub(), 5.0, Clock()),
            self.router.stub(),
            self.providers.stub(),
            Recorder(self.spool, None),  # type: ignore[arg-type] # what of a spool is used
            Allowances(None, None, Settler(self.spool, None), Clock(), Clock()),  # type: ignore[arg-type] # the same
            _there,
        )
        self.trail = Trail("r-1")

    def call(self, key: str = KEY, body: object = BODY) -> Call:
        deadline = asyncio.get_running_loop().time() + self.seconds
        return Call(key, self.facts, body, deadline, self.trail)  # type: ignore[arg-type] # one of its kinds

    def generate(self, key: str = KEY) -> AsyncGenerator[GenerateResponse]:
        return self.flow.generate(self.call(key))

    async def answer(self) -> bytes:
        async with asyncio.timeout(5):
            return data_of([response async for response in self.generate()])

    async def refused(self) -> tuple[MeshError, bytes]:
        """What the call ends with, and what was handed out before."""
        responses: list[GenerateResponse] = []
        with pytest.raises(MeshError) as caught:
            async with asyncio.timeout(5):
                async for response in self.generate():
                    responses.append(response)
        return caught.value, data_of(responses)

    @property
    def record(self) -> CallRecord:
        """The only one."""
        [record] = self.spool.records
        return record

    @property
    def tried(self) -> list[tuple[int, str]]:
        return [(request.attempt, request.target.deployment) for request in self.providers.requests]

    @property
    def faults(self) -> list[int]:
        return [attempt.fault for attempt in self.record.attempts]
