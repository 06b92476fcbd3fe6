"""A gateway that has too little memory, by every door."""

import asyncio
from pathlib import Path

import grpc
import pytest

from bench.vendor import Vendor
from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.gateway.v1 import gateway_pb2
from polyroute.api.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from tests.mesh.gateway import grpc_door, question, running

T = 5.0
MESSAGE = chat_pb2.Message(role=chat_pb2.ROLE_USER, parts=[chat_pb2.Part(text=chat_pb2.TextPart(text="hello"))])
CALL = gateway_pb2.ChatRequest(chat=chat_pb2.ChatRequest(model="m", messages=[MESSAGE]))


async def test_calls_are_turned_away_before_the_process_is_killed(tmp_path: Path) -> None:
    """With 503 and the time to come back; what asks how it is gets its answer."""
    async with (
        Vendor() as vendor,
        running(tmp_path, {"v": vendor.url}, edge={"max_memory_bytes": 1 << 20}) as gateway,
    ):
        await asyncio.sleep(0.6)
        answer = await gateway.post(body=question())
        health = await gateway.get("/health/live")
        metadata = (("authorization", f"Bearer {gateway.key}"),)
        async with grpc_door(gateway) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await anext(aiter(GatewayServiceStub(channel).Chat(CALL, timeout=T, metadata=metadata)))

    assert (503, "1") == (answer.status, answer.headers["retry-after"])
    assert ("overloaded", "too little memory is left") == (answer.error["code"], answer.error["message"])
    assert 200 == health.status
    assert grpc.StatusCode.UNAVAILABLE == caught.value.code()
    assert 0 == vendor.requests
