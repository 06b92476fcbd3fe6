"""ProvidersService behind each kind of channel, with vendors on real sockets."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import grpc
import orjson
import pytest

from bench.script import Script
from bench.vendor import Vendor
from polyroute.api.chat.v1.chat_pb2 import OPERATION_EMBEDDING, EncodedRequest, RequestFacts
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.providers.v1 import providers_pb2 as pb
from polyroute.api.providers.v1 import providers_pb2_grpc
from polyroute.mesh.errors import MeshError, from_rpc
from polyroute.mesh.node import Service
from polyroute.providers.account import MovingAccount, Place
from polyroute.providers.roster import Roster
from polyroute.providers.service import ProvidersService
from polyroute.providers.transport import Transport
from polyroute.providers.vendor import Vendor as VendorFacts
from tests.rpc.providers.wire import Heard, account, request

Link = Callable[..., Awaitable[grpc.aio.Channel]]
T = 5.0


@pytest.fixture
async def vendor() -> AsyncGenerator[Vendor]:
    async with Vendor() as listening:
        yield listening


@pytest.fixture
def roster(vendor: Vendor) -> Roster:
    accounts = Roster()
    accounts.replace({"acme": account(vendor.url)}, {"acme": [pb.KnownModel(id="up")]})
    return accounts


@pytest.fixture
async def stub(link: Link, roster: Roster) -> AsyncGenerator[Any]:
    transport = Transport()
    service = ProvidersService(roster, transport)
    channel = await link("providers", Service(providers_pb2_grpc.add_ProvidersServiceServicer_to_server, service))
    yield providers_pb2_grpc.ProvidersServiceStub(channel)
    await transport.close()


async def generate(stub: Any, asked: pb.GenerateRequest, timeout: float = T) -> Heard:  # noqa: ASYNC109 - the call's
    heard = Heard()
    try:
        async for response in stub.Generate(asked, timeout=timeout):
            heard.responses.append(response)
    except grpc.aio.AioRpcError as error:
        heard.error = from_rpc(error)
    return heard


async def refused(call: Awaitable[object]) -> MeshError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc(caught.value)


def vectors(**members: Any) -> pb.EmbedRequest:
    facts = RequestFacts(operation=OPERATION_EMBEDDING, model="m")
    target = pb.Target(deployment="acme/up", provider="acme", upstream_model="up")
    return pb.EmbedRequest(request_id="r-1", attempt=1, target=target, facts=facts, **members)


async def test_answer(stub: Any, vendor: Vendor) -> None:
    """The vendor's events, and what they used."""
    vendor.inject(Script(chunks=3))
    heard = await generate(stub, request())

    assert (None, 3, False) == (heard.error, heard.usage.output_tokens, heard.usage.estimated)
    assert "started" == heard.kinds[0]
    assert ["usage", "finished"] == heard.kinds[-2:]
    assert 3 == heard.data.count(b"@")


async def test_fault_names_its_place(stub: Any, vendor: Vendor) -> None:
    """Whose, where, the vendor's status and when to come back, through any channel."""
    vendor.inject(Script(status=429, retry_after=7))
    error = (await generate(stub, request())).error

    assert (errors_pb2.FAULT_RATE, 7.0) == (error.fault, error.retry_after)
    assert ("acme", "acme/up", "429") == tuple(
        error.metadata[name] for name in ("provider", "deployment", "upstream_status")
    )


async def test_break_in_the_middle(stub: Any, vendor: Vendor) -> None:
    """What came before it arrives, then the fault."""
    vendor.inject(Script(chunks=9, cut=2))
    heard = await generate(stub, request())

    assert (2, errors_pb2.FAULT_TRUNCATED) == (heard.data.count(b"@"), heard.error.fault)


async def test_provider_that_nobody_configured(stub: Any) -> None:
    """Another attempt may find its own."""
    target = pb.Target(deployment="b/up", provider="b", upstream_model="up")
    error = (await generate(stub, request(target=target))).error

    assert (errors_pb2.FAULT_MODEL_GONE, "b") == (error.fault, error.metadata["provider"])


async def test_provider_that_is_not_ready(stub: Any, roster: Roster) -> None:
    """It says why, and when to ask again."""
    away = MovingAccount("local", VendorFacts(name="local", keyless=True), lambda _: "loading", discovered=True)
    roster.replace({"local": away}, {})
    target = pb.Target(deployment="local/up", provider="local", upstream_model="up")
    error = (await generate(stub, request(target=target))).error

    assert (errors_pb2.FAULT_CONNECT, 2.0, "local is not ready: loading") == (
        error.fault,
        error.retry_after,
        error.message,
    )


async def test_account_that_moves(stub: Any, roster: Roster, vendor: Vendor) -> None:
    """Its place and key are asked for at every call."""
    place = Place(vendor.url, "k-1")
    moving = MovingAccount("acme", VendorFacts(name="local", keyless=True), lambda _: place, discovered=True)
    roster.replace({"acme": moving}, {})
    first = await generate(stub, request())
    place = Place(vendor.url, "k-2")
    await generate(stub, request())

    assert first.error is None
    assert ["Bearer k-1", "Bearer k-2"] == [seen.headers["authorization"] for seen in vendor.seen]


async def test_bounds_of_the_plan_are_kept(stub: Any, vendor: Vendor) -> None:
    """A vendor that says nothing for longer than the plan allows has stalled."""
    vendor.inject(Script(chunks=9, stall=1))
    asked = request()
    asked.timeouts.inter_token.FromMilliseconds(100)
    heard = await generate(stub, asked)

    assert (1, errors_pb2.FAULT_STALL) == (heard.data.count(b"@"), heard.error.fault)


async def test_a_whole_answer_may_have_a_bound_of_its_own(stub: Any, vendor: Vendor) -> None:
    """The first token's bounds a stream then, and alone; without another one it bounds both."""
    found = []
    for stream, bounded in [(False, True), (True, True), (False, False)]:
        vendor.inject(Script(first=200))
        asked = request(stream=stream)
        asked.timeouts.first_token.FromMilliseconds(50)
        if bounded:
            asked.timeouts.whole.FromSeconds(5)
        heard = await generate(stub, asked)
        found.append(heard.error.fault if heard.error else 0)

    assert [0, errors_pb2.FAULT_STALL, errors_pb2.FAULT_STALL] == found


async def test_callers_deadline_names_the_vendor(stub: Any, vendor: Vendor) -> None:
    """A moment before it the vendor is given up, so that there is time to say who was slow."""
    told = []
    for _ in range(5):  # the moment is 20 ms, for which a busy machine may be somewhere else
        vendor.inject(Script(chunks=9, stall=1))
        error = (await generate(stub, request(), timeout=0.3)).error
        told.append((error.fault, error.metadata.get("provider")))
        if told[-1][1]:
            break

    assert (errors_pb2.FAULT_STALL, "acme") == told[-1]


async def test_caller_that_leaves(stub: Any, vendor: Vendor) -> None:
    """The vendor's work ends within a quarter of a second."""
    vendor.inject(Script(chunks=100_000, gap=5))
    call = stub.Generate(request(), timeout=T)
    await call.read()
    call.cancel()
    async with asyncio.timeout(0.25):
        while not vendor.cancelled:
            await asyncio.sleep(0.002)

    assert 0 == vendor.active


async def test_one_connection_for_many_calls(stub: Any, vendor: Vendor) -> None:
    """A complete stream gives it back."""
    for _ in range(5):
        await generate(stub, request())

    assert (5, 1) == (vendor.requests, len(vendor.connections))


class TestEmbed:
    async def test_typed(self, stub: Any, vendor: Vendor) -> None:
        """Vectors in the order of the texts."""
        response = await stub.Embed(vectors(input=pb.EmbedInput(texts=["a", "bb"], dimensions=4)), timeout=T)

        assert [[0, 1, 0, 0], [0, 0, 1, 0]] == [list(embedding.values) for embedding in response.embeddings]
        assert (2, True) == (response.usage.input_tokens, response.total_microseconds > 0)
        assert {"model": "up", "input": ["a", "bb"], "dimensions": 4}.items() <= orjson.loads(
            vendor.seen[0].body
        ).items()

    @pytest.mark.parametrize("form", ["float", "base64"])
    async def test_encoded(self, stub: Any, form: str) -> None:
        """In the form that the caller asked for."""
        body = orjson.dumps({"model": "m", "input": "a", "encoding_format": form})
        encoded = EncodedRequest(dialect="openai.embeddings", body=body)
        response = await stub.Embed(vectors(encoded=encoded), timeout=T)
        [entry] = orjson.loads(response.encoded)["data"]

        assert (str if form == "base64" else list) is type(entry["embedding"])

    async def test_fault(self, stub: Any, roster: Roster) -> None:
        """With its place."""
        roster.replace({"acme": account("http://127.0.0.1:1/v1")}, {})
        error = await refused(stub.Embed(vectors(input=pb.EmbedInput(texts=["a"])), timeout=T))

        assert (errors_pb2.FAULT_CONNECT, "acme/up") == (error.fault, error.metadata["deployment"])


async def test_watch(stub: Any, roster: Roster) -> None:
    """The accounts at once, and again when they change; never a key."""
    call = stub.WatchProviders(pb.WatchProvidersRequest())
    first = await call.read()
    waiting = asyncio.ensure_future(call.read())
    await asyncio.sleep(0.05)
    quiet = not waiting.done()
    roster.replace({"acme": account("http://x/v1"), "other": account("http://y/v1")}, {})
    second = await waiting
    call.cancel()

    assert quiet
    assert [("acme", ["up"])] == [(one.name, [model.id for model in one.models]) for one in first.providers]
    assert ["openai.chat", "openai.embeddings"] == list(first.providers[0].dialects)
    assert 2 == len(second.providers)
    assert b"sk-1" not in first.SerializeToString() + second.SerializeToString()
