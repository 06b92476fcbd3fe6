"""Limits on models, and the routes and operations of a key: whatever a call is spelled like, it is the same call."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio

from bench.vendor import Vendor
from polyroute.api.auth.v1 import admin_pb2, auth_pb2, limits_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.gateway.v1 import gateway_pb2
from polyroute.api.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from tests.mesh.gateway import SECONDS, Answer, Gateway, deployment, question, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
MODELS = {
    "small": {"deployments": [deployment("east", "small-1"), deployment("west", "small-1")]},
    "big": {"deployments": [deployment("east", "big-1")]},
    "vectors": {"operations": ["embedding"], "deployments": [deployment("east", "vectors-1")]},
    "talks": {"operations": ["chat"], "deployments": [deployment("east", "talks-1")]},
}
ALIASES = {"fast": "small", "quick": "fast", "huge": "big"}
ROUTER = {"routing": {"auto": {"models": ["small"]}}}
REQUESTS = limits_pb2.LIMIT_KIND_REQUESTS


@dataclass
class Stage:
    """A gateway whose administrator a test is."""

    gateway: Gateway
    vendor: Vendor
    admin: AdminServiceStub
    metadata: tuple[tuple[str, str]]

    async def key(self, *limits: limits_pb2.Limit, **scope: Any) -> str:
        """A new key's secret."""
        request = auth_pb2.CreateKeyRequest(name="bounded", scope=auth_pb2.KeyScope(**scope))
        made = await self.gateway.auth().CreateKey(request, timeout=SECONDS)
        for limit in limits:
            limit.scope = made.key.id
            await self.admin.SetLimit(admin_pb2.SetLimitRequest(limit=limit), timeout=SECONDS, metadata=self.metadata)
        return str(made.secret)

    async def ask(self, secret: str, model: str, path: str = "/v1/chat/completions", **members: Any) -> Answer:
        """A call with a key."""
        headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        return await self.gateway.post(path, question(model=model, max_tokens=4, **members), headers=headers)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(_elsewhere: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """See `Stage`."""
    folder = tmp_path_factory.mktemp("gateway")
    async with (
        Vendor() as vendor,
        running(folder, {"east": vendor.url, "west": vendor.url}, MODELS, aliases=ALIASES, **ROUTER) as gateway,
    ):
        secret = (gateway.process.config.data_dir / "auth.db.admin").read_text().strip()
        stub = AdminServiceStub(gateway.node.channel("auth"))
        yield Stage(gateway, vendor, stub, (("polyroute-admin", secret),))


def once(model: str, amount: int = 1) -> limits_pb2.Limit:
    """One call of a model a minute."""
    return limits_pb2.Limit(kind=REQUESTS, amount=amount, burst=amount, model=model)


@pytest.mark.parametrize(
    "spelling",
    ["small", "SMALL", "small:floor", "small:nitro", "east/small-1", "east/small-1:floor", "fast", "quick", "auto"],
)
async def test_a_limit_on_a_model_holds_however_the_model_is_spelled(stage: Stage, spelling: str) -> None:
    """And whoever is refused was sent to nobody."""
    secret = await stage.key(once("small"))
    first = await stage.ask(secret, spelling)
    before = stage.vendor.requests
    second = await stage.ask(secret, spelling)
    other = await stage.ask(secret, "big")

    assert (200, 429, 200) == (first.status, second.status, other.status)
    assert "1" == first.headers["x-ratelimit-limit-requests"] == second.headers["x-ratelimit-limit-requests"]
    assert 1 == stage.vendor.requests - before


async def test_all_spellings_are_one_count(stage: Stage) -> None:
    """A call by one of them counts for all."""
    secret = await stage.key(once("big", 2))
    statuses = [(await stage.ask(secret, name)).status for name in ("huge", "east/big-1", "big:floor", "big")]

    assert [200, 200, 429, 429] == statuses


@pytest.mark.parametrize("spelling", ["quick", "quick:floor", "models:[quick,big]"])
async def test_a_limit_on_an_alias_binds_calls_that_ask_for_it(stage: Stage, spelling: str) -> None:
    """And none that ask for its model."""
    secret = await stage.key(once("quick"))
    statuses = [(await stage.ask(secret, name)).status for name in (spelling, spelling, "small", "fast")]

    assert [200, 429, 200, 200] == statuses


async def test_a_model_whose_limit_is_reached_gives_way_to_the_next_of_the_list(stage: Stage) -> None:
    """Until that has reached its own."""
    secret = await stage.key(once("small", 1), once("big", 2))
    answers = [await stage.ask(secret, "small", models=["big"]) for _ in range(3)]

    assert [200, 200, 429] == [answer.status for answer in answers]
    assert ["small", "big"] == [answer.headers["x-polyroute-model"] for answer in answers[:2]]


async def test_a_request_to_a_vendor_itself_counts_for_the_model_that_it_names(stage: Stage) -> None:
    """It is on record under that model."""
    secret = await stage.key(once("small"))
    path = "/passthrough/east/chat/completions"
    answers = [await stage.ask(secret, "small-1", path) for _ in range(2)]
    record = await stage.gateway.recorded(answers[0])
    free = await stage.ask(await stage.key(), "unheard-of", path)
    unknown = await stage.gateway.recorded(free)

    assert [200, 429] == [answer.status for answer in answers]
    assert ("small", "east/unheard-of") == (record.model, unknown.model)


async def test_figures_are_within_the_limit_and_know_what_came_back(stage: Stage) -> None:
    """A call without a bound takes more than the limit for its time, and gives most of it back."""
    tokens = limits_pb2.Limit(kind=limits_pb2.LIMIT_KIND_TOKENS, amount=100, burst=100)
    secret = await stage.key(tokens)
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    first = await stage.gateway.post(body=question(model="small"), headers=headers)
    second = await stage.gateway.post(body=question(model="small"), headers=headers)

    assert (200, 429) == (first.status, second.status)
    for answer in (first, second):
        assert 0 <= int(answer.headers["x-ratelimit-remaining-tokens"]) <= 100
        assert float(answer.headers["x-ratelimit-reset-tokens"].removesuffix("s")) <= 60
    assert int(second.headers["retry-after"]) <= 60


async def test_a_key_for_one_kind_of_work_sees_the_models_for_it(stage: Stage) -> None:
    """In the listings of all APIs."""
    secret = await stage.key(operations=[chat_pb2.OPERATION_EMBEDDING])
    headers = {"authorization": f"Bearer {secret}"}
    openai = await stage.gateway.get("/v1/models", headers=headers)
    gemini = await stage.gateway.get("/v1beta/models", headers=headers)
    hidden = await stage.gateway.get("/v1/models/talks", headers=headers)

    names = {model["id"] for model in openai.json["data"]}
    assert "vectors" in names
    assert "talks" not in names
    assert names == {model["baseModelId"] for model in gemini.json["models"]}
    assert 404 == hidden.status


async def test_a_route_holds_for_the_spellings_of_its_door(stage: Stage) -> None:
    """gRPC has routes of its own."""
    secret = await stage.key(routes=["/v1/chat/completions"])
    paths = ("/v1/chat/completions", "/chat/completions", "/openai/deployments/small/chat/completions", "/v1/messages")
    statuses = [(await stage.ask(secret, "small", path)).status for path in paths]
    async with grpc.aio.insecure_channel(stage.gateway.door) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await trailing(channel, secret)

    assert [200, 200, 200, 403] == statuses
    assert grpc.StatusCode.PERMISSION_DENIED == refused.value.code()


async def test_figures_follow_an_answer_over_grpc(stage: Stage) -> None:
    """As trailing metadata."""
    secret = await stage.key(once("small", 6), routes=["/polyroute.api.gateway.v1.GatewayService/Chat"])
    async with grpc.aio.insecure_channel(stage.gateway.door) as channel:
        found = await trailing(channel, secret)

    assert ("6", "5") == (found["x-ratelimit-limit-requests"], found["x-ratelimit-remaining-requests"])


async def trailing(channel: grpc.aio.Channel, secret: str) -> dict[str, Any]:
    """What follows an answer of the gRPC door."""
    words = chat_pb2.Message(role=chat_pb2.ROLE_USER, parts=[chat_pb2.Part(text=chat_pb2.TextPart(text="hi"))])
    request = gateway_pb2.ChatRequest(chat=chat_pb2.ChatRequest(model="small", messages=[words]))
    metadata = (("authorization", f"Bearer {secret}"),)
    call = GatewayServiceStub(channel).Chat(request, timeout=SECONDS, metadata=metadata)
    async for _ in call:
        pass
    return dict(await call.trailing_metadata() or ())
