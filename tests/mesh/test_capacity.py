"""Deployments that have no room: calls go to the next one, and are refused when there is none."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from bench.vendor import Vendor
from polyroute.api.auth.v1 import admin_pb2, limits_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from tests.mesh.gateway import Answer, Gateway, deployment, question, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
T = 5.0
MODELS = {
    "m": {"deployments": [deployment("one", max_concurrency=2), deployment("two", max_concurrency=2)]},
    "sold": {"deployments": [deployment("one", "sold"), deployment("two", "sold")]},
    "line": {"deployments": [deployment("one", "line")]},
}


@dataclass
class Stage:
    """A gateway before two vendors."""

    gateway: Gateway
    vendors: Sequence[Vendor]

    async def storm(self, count: int, model: str = "m", *, milliseconds: int = 150) -> list[Answer]:
        """Calls at once."""
        body = question(f"[[first={milliseconds}]]", model)
        return await asyncio.gather(*(self.gateway.post(body=body) for _ in range(count)))

    async def figure(self, name: str, value: int) -> None:
        """Returns when the edge says that it has so many calls of a kind."""
        line = f"polyroute_edge_calls_{name} {value}.0".encode()
        async with asyncio.timeout(T):
            while line not in (await self.gateway.get("/metrics")).body:
                await asyncio.sleep(0.01)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """See `Stage`."""
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(Vendor()) for _ in range(2)]
        providers = {"one": one.url, "two": two.url}
        folder = tmp_path_factory.mktemp("gateway")
        edge = {"max_calls": 8, "turn_seconds": 60.0}
        yield Stage(await stack.enter_async_context(running(folder, providers, MODELS, edge=edge)), (one, two))


def served(answers: Sequence[Answer]) -> dict[str, int]:
    """How many each provider answered."""
    found = [answer.headers["x-polyroute-provider"] for answer in answers if answer.status == 200]
    return {name: found.count(name) for name in sorted(set(found))}


async def test_full_deployment_is_passed_over(stage: Stage) -> None:
    """Without an attempt on record; when all are full the caller is told when to come back."""
    answers = await stage.storm(6)
    refused = [answer for answer in answers if answer.status != 200]
    again = await stage.storm(4)

    assert {"one": 2, "two": 2} == served(answers) == served(again)
    assert [(503, "overloaded")] * 2 == [(answer.status, answer.error["code"]) for answer in refused]
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert {"1"} == {answer.headers["x-polyroute-attempts"] for answer in answers if answer.status == 200}


async def test_what_a_vendor_sold_is_kept_to(stage: Stage) -> None:
    """Calls beyond it go to the next deployment, without a 429 of the vendor."""
    deployments = await stage.storm(1, "sold", milliseconds=0)
    name = deployments[0].headers["x-polyroute-deployment"]
    other = "two" if name.startswith("one") else "one"
    limit = limits_pb2.Limit(scope="deployment", kind=limits_pb2.LIMIT_KIND_REQUESTS, model=name, amount=6, burst=3)
    secret = (stage.gateway.process.config.data_dir / "auth.db.admin").read_text().strip()
    admin = AdminServiceStub(stage.gateway.node.channel("auth"))
    metadata = (("polyroute-admin", secret),)
    await admin.SetLimit(admin_pb2.SetLimitRequest(limit=limit), timeout=T, metadata=metadata)
    await asyncio.sleep(0.3)
    answers = [(await stage.storm(1, "sold", milliseconds=0))[0] for _ in range(20)]

    assert {200} == {answer.status for answer in answers}
    assert served(answers)[name.partition("/")[0]] <= 4
    assert served(answers)[other] >= 16


async def test_critical_calls_come_first(stage: Stage) -> None:
    """When as many are under way as may be."""
    classes = ("sheddable", "default", "critical")

    async def ask(criticality: str, milliseconds: int) -> None:
        headers = stage.gateway.headers(**{"x-polyroute-criticality": criticality})
        body = question(f"[[first={milliseconds}]] {criticality}", "line")
        assert 200 == (await stage.gateway.post(body=body, headers=headers)).status

    holding = [asyncio.create_task(ask("holding", 60_000)) for _ in range(8)]
    await stage.figure("under_way", 8)
    waiting: list[asyncio.Task[None]] = []
    for criticality in classes:
        waiting += [asyncio.create_task(ask(criticality, 0)) for _ in range(2)]
        await stage.figure("waiting", len(waiting))
    holding[0].cancel()  # one place, which each of them leaves to the next
    await asyncio.gather(*waiting)
    for one in holding:
        one.cancel()
    await asyncio.gather(*holding, return_exceptions=True)
    bodies = [seen.body.decode() for seen in stage.vendors[0].seen][-len(waiting) :]

    assert ["critical", "critical", "default", "default", "sheddable", "sheddable"] == [
        next(name for name in classes if name in body) for body in bodies
    ]


async def test_requests_to_a_vendors_own_api_take_room_too(stage: Stage) -> None:
    """Of the deployment that the body names; their room is free again when they have ended."""
    body = question("[[first=150]]", "up")
    path = "/passthrough/one/chat/completions"
    for _ in range(2):
        answers = await asyncio.gather(*(stage.gateway.post(path, body=body) for _ in range(5)))

        assert {200: 2, 503: 3} == {status: [one.status for one in answers].count(status) for status in (200, 503)}
