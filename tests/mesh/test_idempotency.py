"""One vendor call and one charge per `Idempotency-Key`, over two edges of one installation."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc
import orjson
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2, status_pb2

from bench.script import Script, marker
from bench.vendor import Vendor
from polyroute.api.auth.v1.auth_pb2 import AuthorizeRequest
from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.gateway.v1 import gateway_pb2 as pb
from polyroute.api.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from polyroute.api.idempotency.v1.idempotency_pb2 import ClaimRequest
from polyroute.api.idempotency.v1.idempotency_pb2_grpc import IdempotencyServiceStub
from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.cli.config import load
from polyroute.cli.roles import Process
from polyroute.edge.idempotency.request import content_of, request_of
from polyroute.mesh import lifecycle
from tests.fakes.vendors import Vendors
from tests.mesh.gateway import SECONDS, Answer, Gateway, deployment, question, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
LEASE = 0.6
# the scorecard asks for 200 keys and 50 duplicates of each: 10,000 requests that come back until they are answered
KEYS, DUPLICATES = (200, 50) if os.environ.get("POLYROUTE_SCORECARD") else (6, 20)
PATIENCE = 60.0  # seconds; the machine may be busy
CHAT = "/v1/chat/completions"


@dataclass
class Two:
    """Two edges over the same auth, router, providers and metrics.

    Attributes:
        gateway: All roles; its HTTP door is one of the two.
        other: The other's node.
        vendor: OpenAI-compatible, with counted requests.
        works: Answers what else there is: pictures, rerank, other formats.
        session: Up to a thousand connections.
    """

    gateway: Gateway
    other: Any
    vendor: Vendor
    works: Vendors
    session: aiohttp.ClientSession
    _names: int = field(default=0)

    def key(self) -> str:
        """A key that nobody has used."""
        self._names += 1
        return f"key-{self._names}"

    async def post(
        self, key: str, body: Any = None, *, path: str = "/v1/chat/completions", second: bool = False
    ) -> Answer:
        """A request that names a key, at one of the edges."""
        door = self.other.bound["http"] if second else self.gateway.url
        headers = self.gateway.headers(**{"idempotency-key": key})
        body = question() if body is None else body
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        async with self.session.post(door + path, data=data, headers=headers) as response:
            read = await response.read()
            return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, read)

    async def until(self, asked: Callable[[], Awaitable[Answer]], *unlike: int, every: float = 0.1) -> Answer:
        """The first answer with another status than these."""
        async with asyncio.timeout(PATIENCE):
            while (answer := await asked()).status in unlike:
                await asyncio.sleep(every)
        return answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(_elsewhere: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Two]:
    """See `Two`."""
    async with AsyncExitStack() as stack:
        vendor = await stack.enter_async_context(Vendor())
        works = await stack.enter_async_context(Vendors())
        others = {"vendor": "openai_compatible", "base_url": f"{works.url}/v1", "keys": ["sk-w"]}
        gateway = await stack.enter_async_context(
            running(
                tmp_path_factory.mktemp("gateway"),
                {"v": vendor.url, "w": others},
                {
                    "m": {"deployments": [deployment("v")], "operations": ["chat", "completion", "embedding"]},
                    "r": {"deployments": [deployment("w")], "operations": ["rerank", "image", "moderation"]},
                },
                edge={"idempotency_lease": LEASE},
            )
        )
        edge = Process(load(gateway.config), gateway.config, {}, frozenset({"edge"}), "second", lambda _: None)
        node = edge.node()
        stack.push_async_callback(node.close)
        await stack.enter_async_context(lifecycle.running(edge.table(node)))
        everything = aiohttp.TCPConnector(limit=1000)
        session = aiohttp.ClientSession(connector=everything, timeout=aiohttp.ClientTimeout(total=PATIENCE))
        yield Two(gateway, node, vendor, works, await stack.enter_async_context(session))


async def test_many_duplicates_make_one_call_each(two: Two) -> None:
    """The same request many times under each of many keys, over both edges: 1 call each, and identical answers."""
    before = two.vendor.requests
    keys = [two.key() for _ in range(KEYS)]

    async def insist(key: str, number: int) -> Answer:
        body = question(f"hello {key} {marker(first=20)}", stream=len(key) % 2 == 0)
        return await two.until(
            lambda: two.post(key, body, second=bool(number % 2)), 409, 503, every=1.0 if KEYS > 20 else 0.3
        )

    everyone = [[insist(key, number) for number in range(DUPLICATES)] for key in keys]
    answers = await asyncio.gather(*(asyncio.gather(*one) for one in everyone))

    assert before + KEYS == two.vendor.requests
    for same in answers:
        assert {200} == {answer.status for answer in same}
        assert 1 == len({answer.body for answer in same})
        assert DUPLICATES - 1 == sum(answer.headers.get("idempotent-replayed") == "true" for answer in same)
        first = next(answer for answer in same if "idempotent-replayed" not in answer.headers)
        originals = {answer.headers.get("x-polyroute-original-request-id") for answer in same} - {None}
        assert {first.headers["x-request-id"]} == originals


async def test_stream_is_replayed_as_it_was(two: Two) -> None:
    """Every event, and the end; from the other edge."""
    key, body = two.key(), question(f"hi {marker(chunks=40)}", stream=True)
    before = two.vendor.requests

    first = await two.post(key, body)
    again = await two.post(key, body, second=True)

    assert first.body == again.body
    assert first.body.endswith(b"data: [DONE]\n\n")
    assert first.headers["content-type"] == again.headers["content-type"]
    assert "true" == again.headers["idempotent-replayed"]
    assert before + 1 == two.vendor.requests


async def test_same_request_may_be_spelled_otherwise(two: Two) -> None:
    """What counts is the canonical form."""
    key = two.key()
    first = await two.post(key, b'{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":1.0}')

    again = await two.post(key, b'{ "temperature": 1, "messages":[{"content":"h\\u0069","role":"user"}], "model":"m" }')

    assert (200, first.body) == (again.status, again.body)


async def test_another_body_is_refused(two: Two) -> None:
    """422, and no call is made."""
    key = two.key()
    await two.post(key, question("one"))
    before = two.vendor.requests

    answer = await two.post(key, question("two"))

    assert (422, "idempotency_key_reused") == (answer.status, answer.error["code"])
    assert before == two.vendor.requests
    assert "false" == answer.headers["x-should-retry"]


async def test_call_under_way_is_told_to_come_back(two: Two) -> None:
    """409 and in a second."""
    key, body = two.key(), question(f"hi {marker(first=500)}")
    first = asyncio.ensure_future(two.post(key, body))
    await asyncio.sleep(0.15)

    answer = await two.post(key, body, second=True)

    assert (409, "1") == (answer.status, answer.headers["retry-after"])
    assert "idempotency_key_in_use" == answer.error["code"]
    assert 200 == (await first).status


async def test_call_longer_than_its_lease_keeps_its_entry(two: Two) -> None:
    """Its edge prolongs it."""
    key, body = two.key(), question(f"hi {marker(first=3000 * LEASE)}")
    before = two.vendor.requests
    first = asyncio.ensure_future(two.post(key, body))
    await asyncio.sleep(2 * LEASE)

    assert 409 == (await two.post(key, body, second=True)).status

    assert (await first).body == (await two.post(key, body, second=True)).body
    assert before + 1 == two.vendor.requests


async def test_own_refusals_are_not_kept(two: Two) -> None:
    """The same key serves the request that is right at last."""
    key = two.key()

    assert 404 == (await two.post(key, question(model="nothing"))).status

    assert 200 == (await two.post(key, question())).status


async def test_vendors_trouble_is_not_kept(two: Two) -> None:
    """Another try may be spared it."""
    key, body = two.key(), question(f"once {two.key()}")
    two.vendor.inject(*[Script(status=500)] * 3)
    before = two.vendor.requests

    first = await two.post(key, body)
    two.vendor._injected.clear()
    again = await two.post(key, body)

    assert (True, 200) == (first.status in (502, 503), again.status)
    assert "idempotent-replayed" not in again.headers
    assert before < two.vendor.requests


async def test_vendors_last_word_is_kept(two: Two) -> None:
    """A request that is wrong for a vendor is wrong again."""
    key, body = two.key(), question("wrong")
    two.vendor.inject(Script(status=400))

    first = await two.post(key, body)
    before = two.vendor.requests
    again = await two.post(key, body)

    assert (400, 400) == (first.status, again.status)
    assert first.body == again.body
    assert before == two.vendor.requests


async def test_client_that_left_comes_back_for_its_answer(two: Two) -> None:
    """The call went on: it is paid for."""
    key, body = two.key(), question(f"hi {marker(first=400)}")
    before = two.vendor.requests
    first = asyncio.ensure_future(two.post(key, body))
    await asyncio.sleep(0.15)
    first.cancel()

    answer = await two.until(lambda: two.post(key, body), 409)

    assert (200, "true") == (answer.status, answer.headers["idempotent-replayed"])
    assert before + 1 == two.vendor.requests
    record = await two.gateway.record(answer.headers["x-polyroute-original-request-id"])
    assert metrics_pb2.OUTCOME_COMPLETED == record.outcome


async def test_long_stream_is_not_kept_and_not_made_again(two: Two) -> None:
    """Above 1 MiB: 409."""
    key, body = two.key(), question(f"hi {marker(chunks=9000)}", stream=True)
    before = two.vendor.requests

    first = await two.post(key, body)
    again = await two.post(key, body)

    assert len(first.body) > 1 << 20
    assert (409, "idempotency_answer_not_kept") == (again.status, again.error["code"])
    assert "false" == again.headers["x-should-retry"]
    assert before + 1 == two.vendor.requests


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "m", "input": "hi"}),
        ("/v1/responses", {"model": "m", "input": "hi"}),
        ("/v1/responses", {"model": "m", "input": "hi", "stream": True}),
        ("/v1/messages", {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}),
        (
            "/v1/messages",
            {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "stream": True},
        ),
        ("/v1beta/models/m:generateContent", {"contents": [{"parts": [{"text": "hi"}]}]}),
        ("/v1beta/models/m:streamGenerateContent", {"contents": [{"parts": [{"text": "hi"}]}]}),
        ("/v1/rerank", {"model": "r", "query": "q", "documents": ["a", "b"]}),
        ("/v1/images/generations", {"model": "r", "prompt": "a cat"}),
        ("/v1/moderations", {"model": "r", "input": "hi"}),
    ],
)
async def test_every_door_keeps_its_answers(two: Two, path: str, body: Any) -> None:
    """In its own form."""
    key = two.key()

    first = await two.post(key, body, path=path)
    before = two.vendor.requests, len(two.works.seen)
    again = await two.post(key, body, path=path, second=True)

    assert (200, 200) == (first.status, again.status)
    assert first.body == again.body
    assert "true" == again.headers["idempotent-replayed"]
    assert before == (two.vendor.requests, len(two.works.seen))


async def test_key_of_another_route_is_another_key(two: Two) -> None:
    """Clients may number their requests per route."""
    key = two.key()

    assert 200 == (await two.post(key)).status
    assert 200 == (await two.post(key, {"model": "m", "input": "hi"}, path="/v1/embeddings")).status


async def test_key_that_is_none_is_refused(two: Two) -> None:
    """Longer than 255 characters."""
    answer = await two.post("x" * 256)

    assert (400, "idempotency-key") == (answer.status, answer.error["param"])


async def test_answers_are_only_for_those_who_may_ask(two: Two) -> None:
    """A replay needs the key of the project as the call did."""
    key = two.key()
    await two.post(key)
    headers = {"content-type": "application/json", "authorization": "Bearer pr-nobody", "idempotency-key": key}

    answer = await two.gateway.post(body=question(), headers=headers)

    assert 401 == answer.status


async def test_entry_of_a_lost_edge_is_free_after_its_lease(two: Two) -> None:
    """At most one more call."""
    key, body = two.key(), question("lost")
    content = content_of(orjson.dumps(body), "application/json", b"")
    allowed = (
        await two.gateway.auth().Authorize(AuthorizeRequest(credential=two.gateway.key), timeout=SECONDS)
    ).verdict
    asked = request_of(allowed, "POST /v1/chat/completions", key, content)
    stub = IdempotencyServiceStub(two.gateway.node.channel("metrics"))
    claim = ClaimRequest(
        entry=asked.entry, fingerprint=asked.fingerprint, claim="lost", lease_milliseconds=int(LEASE * 1000)
    )
    await stub.Claim(claim, timeout=SECONDS)  # and never heard of again
    before = two.vendor.requests

    assert 409 == (await two.post(key, body)).status
    answer = await two.until(lambda: two.post(key, body), 409)

    assert 200 == answer.status
    assert before + 1 == two.vendor.requests


@pytest_asyncio.fixture(loop_scope="module")
async def stub(two: Two) -> AsyncGenerator[Any]:
    """The gRPC door."""
    async with grpc.aio.insecure_channel(two.gateway.door) as channel:
        yield GatewayServiceStub(channel)


def _metadata(two: Two, key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {two.gateway.key}"), ("idempotency-key", key))


def _chat(text: str) -> pb.ChatRequest:
    part = chat_pb2.Part(text=chat_pb2.TextPart(text=text))
    message = chat_pb2.Message(role=chat_pb2.ROLE_USER, parts=[part])
    return pb.ChatRequest(chat=chat_pb2.ChatRequest(model="m", messages=[message]))


async def test_grpc_stream_is_replayed(two: Two, stub: Any) -> None:
    """The same messages; the metadata says so."""
    metadata, before = _metadata(two, two.key()), two.vendor.requests

    first = [message async for message in stub.Chat(_chat("hi"), timeout=SECONDS, metadata=metadata)]
    call = stub.Chat(_chat("hi"), timeout=SECONDS, metadata=metadata)
    again = [message async for message in call]

    assert first == again
    assert "true" == dict(await call.initial_metadata())["idempotent-replayed"]
    assert before + 1 == two.vendor.requests


async def test_grpc_answer_is_replayed(two: Two, stub: Any) -> None:
    """Of a method that answers once; another request under the same key is refused."""
    metadata, before = _metadata(two, two.key()), two.vendor.requests
    request = pb.EmbedRequest(model="m", texts=["hi"])

    first = await stub.Embed(request, timeout=SECONDS, metadata=metadata)
    again = await stub.Embed(request, timeout=SECONDS, metadata=metadata)

    assert first == again
    assert before + 1 == two.vendor.requests
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Embed(pb.EmbedRequest(model="m", texts=["no"]), timeout=SECONDS, metadata=metadata)
    assert (grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_MISMATCH") == (refused.value.code(), _reason(refused.value))


async def test_grpc_call_under_way_is_told_to_come_back(two: Two, stub: Any) -> None:
    """ABORTED; and the reader who left finds the answer later."""
    metadata, before = _metadata(two, two.key()), two.vendor.requests
    request = _chat(f"hi {marker(first=400)}")
    first = stub.Chat(request, timeout=SECONDS, metadata=metadata)
    reading = asyncio.ensure_future(first.read())
    await asyncio.sleep(0.15)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Chat(request, timeout=SECONDS, metadata=metadata).read()
    assert (grpc.StatusCode.ABORTED, "IDEMPOTENCY_RUNNING") == (refused.value.code(), _reason(refused.value))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                again = [message async for message in stub.Chat(request, timeout=SECONDS, metadata=metadata)]
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)

    assert again[-1].steps[-1].HasField("completed")
    assert before + 1 == two.vendor.requests


async def test_grpc_vendors_last_word_is_replayed(two: Two, stub: Any) -> None:
    """With its status and details."""
    metadata = _metadata(two, two.key())
    two.vendor.inject(Script(status=400))
    told = []

    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Chat(_chat("wrong"), timeout=SECONDS, metadata=metadata).read()
        told.append((refused.value.code(), refused.value.details(), _reason(refused.value)))

    assert told[0] == told[1]


def _reason(error: grpc.aio.AioRpcError) -> str:
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin" and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                    return str(error_details_pb2.ErrorInfo.FromString(detail.value).reason)
    return ""
