"""Bounds that callers share: limits of everybody, in each API's headers, and turns when too many call at once."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from bench.vendor import Vendor
from polyroute.api.auth.v1 import admin_pb2, auth_pb2, limits_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from tests.mesh.gateway import Answer, Gateway, running
from tests.redis import RedisServer, redis_process, redis_server

__all__ = ["redis_process", "redis_server"]

pytestmark = pytest.mark.asyncio(loop_scope="module")
T = 5.0
BODY = {"model": "m", "max_tokens": 16, "messages": [{"role": "user", "content": "hi"}]}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


@dataclass
class Stage:
    """A gateway and its administrator."""

    gateway: Gateway
    vendor: Vendor

    async def limit(self, scope: str, kind: limits_pb2.LimitKind.ValueType, amount: int, **more: object) -> None:
        """Sets a limit."""
        limit = limits_pb2.Limit(scope=scope, kind=kind, amount=amount, **more)  # type: ignore[arg-type]
        await self._admin().SetLimit(admin_pb2.SetLimitRequest(limit=limit), timeout=T, metadata=self._metadata())

    async def lift(self, scope: str, kind: limits_pb2.LimitKind.ValueType, model: str = "") -> None:
        """Lifts it."""
        limit = limits_pb2.Limit(scope=scope, kind=kind, model=model)
        await self._admin().DeleteLimit(admin_pb2.DeleteLimitRequest(limit=limit), timeout=T, metadata=self._metadata())

    async def key(self) -> dict[str, str]:
        """Headers with a new key, and the key's id under `id`."""
        made = await self.gateway.auth().CreateKey(auth_pb2.CreateKeyRequest(name="one"), timeout=T)
        return {"authorization": f"Bearer {made.secret}", "id": made.key.id}

    async def until(self, status: int) -> Answer:
        """The first answer with a status: news of a limit reach the doors within a second."""
        async with asyncio.timeout(T):
            while (answer := await self.gateway.post(body=BODY)).status != status:
                await asyncio.sleep(0.02)
        return answer

    def _admin(self) -> AdminServiceStub:
        return AdminServiceStub(self.gateway.node.channel("auth"))

    def _metadata(self) -> tuple[tuple[str, str]]:
        secret = (self.gateway.process.config.data_dir / "auth.db.admin").read_text().strip()
        return (("polyroute-admin", secret),)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory, redis_process: RedisServer) -> AsyncGenerator[Stage]:
    """With limits counted in Redis, and four calls at once."""
    redis_process.flush()
    folder = tmp_path_factory.mktemp("gateway")
    sections: dict[str, Any] = {
        "auth": {"redis": redis_process.url},
        "edge": {"max_calls": 4, "max_waiting": 4, "turn_seconds": 0.3},
    }
    async with Vendor() as vendor, running(folder, {"v": vendor.url}, **sections) as gateway:
        yield Stage(gateway, vendor)


async def test_limit_of_a_model_binds_all_callers(stage: Stage) -> None:
    """Within a second of being set, until it is lifted; a caller is not told how much the others use."""
    await stage.limit("installation", limits_pb2.LIMIT_KIND_REQUESTS, 6, model="m", burst=1)
    refused = await stage.until(429)
    other = await stage.gateway.post(body=BODY, headers=await stage.key())
    await stage.lift("installation", limits_pb2.LIMIT_KIND_REQUESTS, "m")
    again = await stage.until(200)

    assert (429, "too many requests a minute for this gateway") == (other.status, other.error["message"])
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert not [name for answer in (refused, again) for name in answer.headers if name.startswith("x-ratelimit")]


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("/v1/chat/completions", "x-ratelimit-{}-requests"),
        ("/v1/responses", "x-ratelimit-{}-requests"),
        ("/v1/messages", "anthropic-ratelimit-requests-{}"),
    ],
)
async def test_each_api_has_its_own_names_for_limits(stage: Stage, path: str, prefix: str) -> None:
    """On answers and on refusals."""
    key = await stage.key()
    await stage.limit(key["id"], limits_pb2.LIMIT_KIND_REQUESTS, 6, burst=1)
    body = {"model": "m", "input": "hi"} if path == "/v1/responses" else BODY
    answers = [await stage.gateway.post(path, body, headers=key) for _ in range(2)]

    assert [200, 429] == [answer.status for answer in answers]
    for answer in answers:
        assert ("6", "0") == tuple(answer.headers[prefix.format(name)] for name in ("limit", "remaining"))
        assert answer.headers[prefix.format("reset")]


async def test_gemini_is_told_in_the_body(stage: Stage) -> None:
    """With google.rpc's details."""
    key = await stage.key()
    await stage.limit(key["id"], limits_pb2.LIMIT_KIND_REQUESTS, 6, burst=1)
    path = "/v1beta/models/m:generateContent"
    answers = [await stage.gateway.post(path, CONTENTS, headers=key) for _ in range(2)]
    kinds = [detail["@type"].rpartition(".")[2] for detail in answers[1].error["details"]]

    assert [200, 429] == [answer.status for answer in answers]
    assert ["ErrorInfo", "QuotaFailure", "RetryInfo"] == kinds


async def test_calls_beyond_the_bound_wait_and_are_shed(stage: Stage) -> None:
    """Four at once, four that wait; the others are told when to come back, and figures tell the operator."""
    slow = {**BODY, "messages": [{"role": "user", "content": "[[first=150]]"}]}
    answers = await asyncio.gather(*(stage.gateway.post(body=slow) for _ in range(16)))
    shed = [answer for answer in answers if answer.status == 503]
    text = (await stage.gateway.get("/metrics")).body.decode()

    assert {200, 503} == {answer.status for answer in answers}
    assert 8 == len(shed)
    assert {"overloaded"} == {answer.error["code"] for answer in shed}
    assert all(1 <= int(answer.headers["retry-after"]) <= 30 for answer in shed)
    assert 'polyroute_edge_calls_shed_total{criticality="default"} 8.0' in text
    assert "polyroute_edge_calls_under_way 0.0" in text
    assert "polyroute_limits_degraded 0.0" in text


async def test_without_redis_no_caller_is_refused(stage: Stage, redis_process: RedisServer) -> None:
    """Limits are counted alone, which the figures say; and together again when it is back."""
    key = await stage.key()
    await stage.limit(key["id"], limits_pb2.LIMIT_KIND_REQUESTS, 6000)
    before = await stage.gateway.post(body=BODY, headers=key)
    redis_process.kill()
    during = []
    async with asyncio.timeout(T):
        while "polyroute_edge_limits_degraded 1.0" not in (await stage.gateway.get("/metrics")).body.decode():
            during.append((await stage.gateway.post(body=BODY, headers=key)).status)
            await asyncio.sleep(0.02)
    redis_process.start()

    assert 200 == before.status
    assert {200} == set(during)
    async with asyncio.timeout(T):
        while "polyroute_edge_limits_degraded 0.0" not in (await stage.gateway.get("/metrics")).body.decode():
            assert 200 == (await stage.gateway.post(body=BODY, headers=key)).status
            await asyncio.sleep(0.02)
