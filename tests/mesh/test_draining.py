"""A provider whose answers are read on when the caller leaves: its own figures are charged, for a bounded time."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from unittest.mock import patch

import pytest
import pytest_asyncio

from bench.script import marker
from bench.vendor import Vendor
from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.gateway.v1 import gateway_pb2
from polyroute.api.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.api.metrics.v1.metrics_pb2 import CallRecord
from tests.mesh.gateway import SECONDS, Gateway, deployment, grpc_door, keys_of, question, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@dataclass
class Stage:
    """A gateway before one vendor: model `drained` by an account that is drained, `cut` by one that is not."""

    gateway: Gateway
    vendor: Vendor

    async def left(self, model: str, prompt: str, *, stream: bool) -> CallRecord:
        """The record of a call whose client leaves once the vendor is at work, and has said something in a stream."""
        asked, known = self.vendor.requests, {record.request_id for record in await self.records()}
        call = self.gateway.call(body=question(prompt, model=model, stream=stream))
        task = asyncio.ensure_future(call.__aenter__())
        async with asyncio.timeout(SECONDS):
            while self.vendor.requests == asked or not self.vendor.active:
                await asyncio.sleep(0.002)
        if stream:
            response = await task
            await response.content.readuntil(b"@")
            response.close()
        else:
            task.cancel()
            await asyncio.wait([task])
        async with asyncio.timeout(SECONDS):
            while not (new := [one for one in await self.records() if one.request_id not in known]):
                await asyncio.sleep(0.01)
        return new[0]

    async def records(self) -> list[CallRecord]:
        """All there are."""
        request = metrics_pb2.ListCallsRequest(page_size=1000)
        return list((await self.gateway.metrics().ListCalls(request, timeout=SECONDS)).records)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """See `Stage`."""
    async with Vendor() as vendor:
        account = {"vendor": "openai_compatible", "base_url": vendor.url}
        providers = {
            "drained": {**account, "keys": keys_of("d"), "on_disconnect": "drain"},
            "cut": {**account, "keys": keys_of("c")},
        }
        models = {name: {"deployments": [deployment(name)]} for name in providers}
        async with running(tmp_path_factory.mktemp("gateway"), providers, models) as gateway:
            yield Stage(gateway, vendor)


@both_ways
async def test_the_vendors_own_figures_are_charged(stage: Stage, *, stream: bool) -> None:
    """The vendor is not cut off; the record says that the caller left, and what the whole answer cost."""
    before = stage.vendor.cancelled
    prompt = marker(chunks=20, gap=10) if stream else marker(first=200, chunks=20)

    record = await stage.left("drained", prompt, stream=stream)

    assert before == stage.vendor.cancelled
    assert (metrics_pb2.OUTCOME_CANCELLED, 499) == (record.outcome, record.http_status)
    assert [True] == [attempt.cancelled for attempt in record.attempts]
    assert (20, False) == (record.usage.output_tokens, record.usage.estimated)
    assert record.cost_nanos == record.usage.input_tokens * 1500 + 20 * 6000


async def test_a_grpc_client_that_leaves(stage: Stage) -> None:
    """Cancelling at the gRPC door is leaving as well."""
    before = stage.vendor.cancelled
    part = chat_pb2.Part(text=chat_pb2.TextPart(text=marker(chunks=20, gap=10)))
    message = chat_pb2.Message(role=chat_pb2.ROLE_USER, parts=[part])
    request = gateway_pb2.ChatRequest(chat=chat_pb2.ChatRequest(model="drained", messages=[message]))
    async with grpc_door(stage.gateway) as channel:
        metadata = (("authorization", f"Bearer {stage.gateway.key}"),)
        call = GatewayServiceStub(channel).Chat(request, timeout=SECONDS, metadata=metadata)
        first = await anext(aiter(call))
        call.cancel()

    record = await stage.gateway.record(first.steps[0].served.request_id)

    assert before == stage.vendor.cancelled
    assert metrics_pb2.OUTCOME_CANCELLED == record.outcome
    assert (20, False) == (record.usage.output_tokens, record.usage.estimated)


@both_ways
async def test_by_default_the_vendor_is_cut_off(stage: Stage, *, stream: bool) -> None:
    """And what it delivered is an estimate."""
    before = stage.vendor.cancelled

    record = await stage.left("cut", marker(chunks=1000, gap=20, first=0 if stream else 5000), stream=stream)

    assert before + 1 == stage.vendor.cancelled
    assert metrics_pb2.OUTCOME_CANCELLED == record.outcome
    assert record.usage.estimated


@pytest.mark.parametrize(("name", "bound"), [("DRAIN_BYTES", 64), ("DRAIN_SECONDS", 0.2)])
async def test_no_answer_is_read_on_for_ever(stage: Stage, name: str, bound: float) -> None:
    """After so much time, or so many bytes, the vendor is cut off as if nobody had read on."""
    before = stage.vendor.cancelled

    with patch(f"polyroute.edge.draining.{name}", bound):
        record = await stage.left("drained", marker(chunks=100_000, gap=5), stream=True)

    assert before + 1 == stage.vendor.cancelled
    assert metrics_pb2.OUTCOME_CANCELLED == record.outcome
    assert record.usage.estimated
