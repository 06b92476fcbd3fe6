"""Keys at both doors: what one may use, and how soon a revoked one is refused."""

import asyncio

import grpc
import pytest

from polyroute.api.auth.v1 import auth_pb2
from polyroute.api.gateway.v1.gateway_pb2 import ListModelsRequest
from polyroute.api.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from tests.mesh.conftest import Stage
from tests.mesh.gateway import SECONDS, Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def made(gateway: Gateway, *models: str, seconds: float = 0) -> auth_pb2.CreateKeyResponse:
    """A new key."""
    request = auth_pb2.CreateKeyRequest(name="test", models=models)
    if seconds:
        request.lifetime.FromNanoseconds(int(seconds * 1e9))
    response: auth_pb2.CreateKeyResponse = await gateway.auth().CreateKey(request, timeout=SECONDS)
    return response


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


async def test_a_new_key_works_at_once(stage: Stage) -> None:
    """A key needs no time to be known, and its calls are recorded under it."""
    created = await made(stage.gateway)

    answer = await stage.gateway.chat(headers=bearer(created.secret))
    record = await stage.gateway.recorded(answer)

    assert 200 == answer.status
    assert (created.key.id, "test") == (record.caller.key_id, record.caller.key_name)


async def test_a_key_for_some_models(stage: Stage) -> None:
    """Other models are refused with 403 and not listed; an alias is a name of its own."""
    created = await made(stage.gateway, "m", "nick")
    headers = bearer(created.secret)

    allowed = await stage.gateway.chat(headers=headers)
    alias = await stage.gateway.chat(model="nick", headers=headers)
    refused = await stage.gateway.chat(model="pair", headers=headers)
    listed = await stage.gateway.get("/v1/models", headers=headers)
    hidden = await stage.gateway.get("/v1/models/pair", headers=headers)

    assert (200, 200) == (allowed.status, alias.status)
    assert "m" == alias.headers["x-polyroute-model"]
    assert (403, "not_permitted", "model") == (refused.status, refused.error["code"], refused.error["param"])
    assert ["m", "nick"] == [model["id"] for model in listed.json["data"]]
    assert 404 == hidden.status


async def test_a_revoked_key_is_refused_within_a_second(stage: Stage) -> None:
    """Under load, with its verdict cached: the last call that succeeds is at most a second after the revocation."""
    created = await made(stage.gateway)
    loop = asyncio.get_running_loop()
    answered: list[tuple[float, int]] = []

    async def keep_asking() -> None:
        while not answered or answered[-1][1] == 200:
            began = loop.time()
            answer = await stage.gateway.chat(headers=bearer(created.secret))
            answered.append((began, answer.status))

    asking = [asyncio.create_task(keep_asking()) for _ in range(4)]
    await asyncio.sleep(0.1)
    await stage.gateway.auth().RevokeKey(auth_pb2.RevokeKeyRequest(key=created.key.id), timeout=SECONDS)
    revoked = loop.time()
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*asking)

    assert max(at for at, status in answered if status == 200) < revoked + 1
    assert {200, 401} == {status for _, status in answered}


async def test_a_key_that_ends(stage: Stage) -> None:
    """A key is refused when its time is over, although its verdict was cached."""
    created = await made(stage.gateway, seconds=0.5)
    early = await stage.gateway.chat(headers=bearer(created.secret))
    await asyncio.sleep(0.6)
    late = await stage.gateway.chat(headers=bearer(created.secret))

    assert (200, 401) == (early.status, late.status)


async def test_the_grpc_door_asks_for_the_same_keys(stage: Stage) -> None:
    """A key that is limited or revoked over HTTP is so over gRPC."""
    created = await made(stage.gateway, "m")
    metadata = (("authorization", f"Bearer {created.secret}"),)
    async with grpc.aio.insecure_channel(stage.gateway.door) as channel:
        door = GatewayServiceStub(channel)
        listed = await door.ListModels(ListModelsRequest(), timeout=SECONDS, metadata=metadata)
        await stage.gateway.auth().RevokeKey(auth_pb2.RevokeKeyRequest(key=created.key.id), timeout=SECONDS)
        await asyncio.sleep(0.2)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await door.ListModels(ListModelsRequest(), timeout=SECONDS, metadata=metadata)

    assert ["m"] == [model.name for model in listed.models]
    assert grpc.StatusCode.UNAUTHENTICATED == refused.value.code()
