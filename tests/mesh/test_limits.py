"""Limits and budgets hold for calls through the doors."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from bench.vendor import Vendor
from polyroute.api.auth.v1 import admin_pb2, auth_pb2, limits_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from tests.mesh.gateway import Answer, Gateway, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
T = 5.0
BODY = {"model": "m", "max_tokens": 16, "messages": [{"role": "user", "content": "hi"}]}


@dataclass
class Stage:
    """A gateway whose administrator a test is."""

    gateway: Gateway
    admin: AdminServiceStub
    metadata: tuple[tuple[str, str]]

    async def key(self) -> tuple[str, str]:
        """A new key: its id and its secret."""
        stub = AuthServiceStub(self.gateway.node.channel("auth"))
        made = await stub.CreateKey(auth_pb2.CreateKeyRequest(name="bounded"), timeout=T)
        return made.key.id, made.secret

    async def ask(self, secret: str, body: dict[str, object] | None = None) -> Answer:
        """A call with a key."""
        return await self.gateway.post(body=body or BODY, headers={"authorization": f"Bearer {secret}"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(_elsewhere: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """See `Stage`."""
    async with Vendor() as vendor, running(tmp_path_factory.mktemp("gateway"), {"v": vendor.url}) as gateway:
        secret = (gateway.process.config.data_dir / "auth.db.admin").read_text().strip()
        stub = AdminServiceStub(gateway.node.channel("auth"))
        yield Stage(gateway, stub, (("polyroute-admin", secret),))


async def test_a_limit_of_requests(stage: Stage) -> None:
    """What is within it passes, with the figures beside it; what is beyond is refused with the time to come back."""
    key, secret = await stage.key()
    limit = limits_pb2.Limit(scope=key, kind=limits_pb2.LIMIT_KIND_REQUESTS, amount=6, burst=2)
    await stage.admin.SetLimit(admin_pb2.SetLimitRequest(limit=limit), timeout=T, metadata=stage.metadata)

    answers = [await stage.ask(secret) for _ in range(3)]

    assert [200, 200, 429] == [answer.status for answer in answers]
    assert "6" == answers[0].headers["x-ratelimit-limit-requests"]
    assert "rate_limit_exceeded" == answers[2].error["code"]
    assert 0 < int(answers[2].headers["retry-after"]) <= 60


async def test_a_budget_is_never_overspent(stage: Stage) -> None:
    """Calls pass as long as the money lasts; then they are refused in a way that no client tries again."""
    key, secret = await stage.key()
    budget = limits_pb2.Budget(scope=key, period=limits_pb2.PERIOD_TOTAL, amount_nanos=600_000, hard=True)
    await stage.admin.SetBudget(admin_pb2.SetBudgetRequest(budget=budget), timeout=T, metadata=stage.metadata)

    answers = [await stage.ask(secret) for _ in range(12)]

    statuses = [answer.status for answer in answers]
    assert 200 == statuses[0]
    assert 429 == statuses[-1]
    assert ("insufficient_quota", "false") == (answers[-1].error["code"], answers[-1].headers["x-should-retry"])


async def test_an_answer_without_a_bound_gets_what_can_be_paid(stage: Stage) -> None:
    """The vendor is asked for no more than the budget pays."""
    key, secret = await stage.key()
    budget = limits_pb2.Budget(scope=key, period=limits_pb2.PERIOD_TOTAL, amount_nanos=1_000_000, hard=True)
    await stage.admin.SetBudget(admin_pb2.SetBudgetRequest(budget=budget), timeout=T, metadata=stage.metadata)

    answer = await stage.ask(secret, {name: value for name, value in BODY.items() if name != "max_tokens"})

    assert 200 == answer.status
