"""A gateway behind a load balancer: where callers are, for what their keys may do and for who guesses credentials."""

from collections.abc import AsyncGenerator

import aiohttp
import grpc
import pytest
import pytest_asyncio

from bench.vendor import Vendor
from polyroute.api.auth.v1 import auth_pb2
from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.gateway.v1.gateway_pb2 import ChatRequest
from polyroute.api.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from tests.mesh.gateway import SECONDS, Answer, Gateway, question, running, whole

pytestmark = pytest.mark.asyncio(loop_scope="module")
HERE, THERE = "203.0.113.7", "198.51.100.7"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Gateway]:
    """Its load balancer is this machine's 127.0.0.1; 127.0.0.2 is anybody."""
    edge = {"http": {"trusted_proxies": ["127.0.0.1/32"], "admin": True}}
    async with Vendor() as vendor, running(tmp_path_factory.mktemp("gateway"), {"v": vendor.url}, edge=edge) as found:
        yield found


async def bound(gateway: Gateway, *networks: str) -> str:
    """The secret of a key for callers of some networks."""
    request = auth_pb2.CreateKeyRequest(name="bound", scope=auth_pb2.KeyScope(source_ranges=networks))
    made = await gateway.auth().CreateKey(request, timeout=SECONDS)
    return str(made.secret)


async def by_proxy(gateway: Gateway, secret: str, said: str) -> Answer:
    """A call that the load balancer passes on."""
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json", "x-forwarded-for": said}
    return await gateway.chat(headers=headers)


async def test_key_for_some_addresses(gateway: Gateway) -> None:
    """It is the caller's that counts, not the load balancer's, and not what the caller says of it."""
    secret = await bound(gateway, "203.0.113.0/24")
    said = (HERE, f"{THERE}, {HERE}", THERE, f"{HERE}, {THERE}", "unknown", f"{HERE}, 127.0.0.1", f"[::ffff:{HERE}]:80")

    assert [200, 200, 403, 403, 403, 200, 200] == [(await by_proxy(gateway, secret, one)).status for one in said]
    assert 403 == (await gateway.chat(headers={"authorization": f"Bearer {secret}"})).status


async def test_whoever_is_no_proxy_cannot_say_to_be_elsewhere(gateway: Gateway) -> None:
    """Not at the HTTP door, and nobody at the gRPC door."""
    secret = await bound(gateway, "203.0.113.0/24")
    headers = gateway.headers(**{"authorization": f"Bearer {secret}", "x-forwarded-for": HERE})
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with (
        aiohttp.ClientSession(gateway.url, connector=connector) as session,
        session.post("/v1/chat/completions", json=question(), headers=headers) as response,
    ):
        answer = await whole(response)
    metadata = (("authorization", f"Bearer {secret}"), ("x-forwarded-for", HERE), ("forwarded", f"for={HERE}"))
    message = chat_pb2.Message(role=chat_pb2.ROLE_USER, parts=[chat_pb2.Part(text=chat_pb2.TextPart(text="x"))])
    request = ChatRequest(chat=chat_pb2.ChatRequest(model="m", messages=[message]))
    async with grpc.aio.insecure_channel(gateway.door) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(aiter(GatewayServiceStub(channel).Chat(request, timeout=SECONDS, metadata=metadata)))

    assert (403, "not_permitted") == (answer.status, answer.error["code"])
    assert grpc.StatusCode.PERMISSION_DENIED == refused.value.code()


async def test_who_guesses_locks_out_nobody_else(gateway: Gateway) -> None:
    """Behind the same load balancer: wrong credentials count at the address that they come from."""

    async def guess(number: int, said: str) -> int:
        headers = {"authorization": f"Bearer pa-{number:064d}", "x-forwarded-for": said}
        return (await gateway.get("/admin/v1/accounts", headers=headers)).status

    guesses = [await guess(number, f"192.0.2.{number}, {THERE}") for number in range(30)]

    assert [401] * 20 == guesses[:20]
    assert {429} == set(guesses[21:])
    assert 401 == await guess(99, HERE)
