"""A client that leaves: the vendor's work ends at once, and the call is on record with what was delivered."""

import asyncio
import random
from typing import Any

import grpc
import orjson
import pytest

from bench.script import marker
from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.gateway.v1 import gateway_pb2
from polyroute.api.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.api.metrics.v1.metrics_pb2 import ListCallsRequest
from tests.mesh.conftest import Stage
from tests.mesh.gateway import SECONDS, Gateway, question

pytestmark = pytest.mark.asyncio(loop_scope="module")

WITHIN = 0.25  # s from the client's leaving to the vendor's noticing
STREAMS = 60
UNHEARD = 10  # of them at most may be gone before the door knew who they were: such calls are not recorded


async def cancelled(stage: Stage, count: int) -> float:
    """Seconds until the vendor has seen so many of its clients leave."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(SECONDS):
        while stage.a.cancelled < count:
            await asyncio.sleep(0.002)
    return loop.time() - began


async def ask(gateway: Gateway, text: str, **members: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request sent over a connection of its own."""
    body = orjson.dumps(question(text, **members))
    reader, writer = await asyncio.open_connection(*gateway.address)
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
        f"content-length: {len(body)}\r\n\r\n".encode()
        + body
    )
    return reader, writer


@pytest.mark.parametrize(
    ("prompt", "stream", "read"),
    [
        (marker(chunks=1000, gap=20), True, b"@"),  # in mid-answer
        (marker(first=5000), True, b""),  # before the first token
        (marker(first=5000), False, b""),  # before a whole answer
    ],
)
@pytest.mark.parametrize("reset", [False, True])
async def test_one_client_leaves(stage: Stage, prompt: str, stream: bool, read: bytes, reset: bool) -> None:
    """The vendor's connection is closed within 250 ms, whether the client closes or resets its own."""
    before = stage.a.cancelled
    reader, writer = await ask(stage.gateway, prompt, stream=stream)
    active = stage.a.requests
    if read:
        await reader.readuntil(read)
    else:
        while not stage.a.active:
            await asyncio.sleep(0.002)

    if reset:
        writer.transport.abort()
    else:
        writer.close()
    took = await cancelled(stage, before + 1)

    assert took < WITHIN
    assert active <= stage.a.requests


async def test_a_left_call_is_on_record(stage: Stage) -> None:
    """CANCELLED, status 499, the tokens handed out, and an attempt that says nothing against the vendor."""
    before = stage.a.cancelled
    async with stage.gateway.call(body=question(marker(chunks=1000, gap=10), stream=True)) as response:
        body = b""
        while body.count(b"@") < 5:
            body += await response.content.readany()
        request_id = response.headers["x-request-id"]
        response.close()
    await cancelled(stage, before + 1)

    record = await stage.gateway.record(request_id)

    delivered = body.count(b"@")
    assert (metrics_pb2.OUTCOME_CANCELLED, 499) == (record.outcome, record.http_status)
    assert record.usage.estimated
    assert delivered <= record.usage.output_tokens <= delivered + 3
    assert record.cost_nanos == record.usage.input_tokens * 1500 + record.usage.output_tokens * 6000
    assert [True] == [attempt.cancelled for attempt in record.attempts]


async def test_many_leave_at_random_moments(stage: Stage) -> None:
    """Nothing goes on for nobody, and nothing is forgotten: each of them is on record as a call that was left."""
    chance = random.Random(7)
    asked, left, since = stage.a.requests, stage.a.cancelled, await known(stage.gateway)

    async def leave() -> None:
        _, writer = await ask(stage.gateway, marker(chunks=1000, gap=10), stream=True)
        await asyncio.sleep(chance.uniform(0, 0.6))
        writer.transport.abort()

    await asyncio.gather(*(leave() for _ in range(STREAMS)))
    async with asyncio.timeout(WITHIN):
        while stage.a.active:
            await asyncio.sleep(0.002)
    records = (await stage.gateway.latest(since + STREAMS - UNHEARD))[: STREAMS - UNHEARD]

    assert stage.a.requests - asked == stage.a.cancelled - left
    assert {metrics_pb2.OUTCOME_CANCELLED} == {record.outcome for record in records}


async def known(gateway: Gateway) -> int:
    """How many records there are, once all that were made are there."""
    await asyncio.sleep(0.2)
    listed = await gateway.metrics().ListCalls(ListCallsRequest(page_size=1000), timeout=SECONDS)
    return len(listed.records)


async def test_a_grpc_client_leaves(stage: Stage) -> None:
    """Cancelling at the gRPC door ends the vendor's work as well."""
    before = stage.a.cancelled
    message = chat_pb2.Message(
        role=chat_pb2.ROLE_USER, parts=[chat_pb2.Part(text=chat_pb2.TextPart(text=marker(chunks=1000, gap=20)))]
    )
    request = gateway_pb2.ChatRequest(chat=chat_pb2.ChatRequest(model="m", messages=[message]))
    metadata = (("authorization", f"Bearer {stage.gateway.key}"),)
    async with grpc.aio.insecure_channel(stage.gateway.door) as channel:
        call = GatewayServiceStub(channel).Chat(request, timeout=SECONDS, metadata=metadata)
        first = await anext(aiter(call))
        call.cancel()
        took = await cancelled(stage, before + 1)

    record = await stage.gateway.record(first.steps[0].served.request_id)
    assert took < WITHIN
    assert (metrics_pb2.OUTCOME_CANCELLED, 0) == (record.outcome, record.http_status)


async def test_a_client_that_stops_reading_stops_the_vendor(stage: Stage) -> None:
    """What nobody reads is not asked for: between vendor and client lie some hundred kilobytes, not the answer."""
    reader, writer = await ask(stage.gateway, marker(chunks=200_000), stream=True)
    reader._transport.pause_reading()  # type: ignore[attr-defined] # a client that is busy elsewhere
    while not stage.a.active:
        await asyncio.sleep(0.002)
    await asyncio.sleep(0.5)

    still = stage.a.active
    writer.transport.abort()

    assert 1 == still  # 40 MB would have been sent in that time
