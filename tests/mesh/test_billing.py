"""Every call through the doors is on the ledger, with a budget and without one."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from bench.vendor import Vendor
from polyroute.api.auth.v1 import admin_pb2, auth_pb2, billing_pb2, limits_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from polyroute.api.auth.v1.billing_pb2_grpc import BillingServiceStub
from polyroute.api.metrics.v1 import metrics_pb2
from tests.mesh.gateway import Answer, Gateway, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
T = 5.0
BODY = {"model": "m", "max_tokens": 16, "messages": [{"role": "user", "content": "hi"}]}


@dataclass
class Stage:
    """A gateway whose administrator a test is."""

    gateway: Gateway
    metadata: tuple[tuple[str, str]]

    async def admin(self, name: str, request: Any) -> Any:
        """An administrator's request."""
        stub = AdminServiceStub(self.gateway.node.channel("auth"))
        return await getattr(stub, name)(request, timeout=T, metadata=self.metadata)

    async def billing(self, name: str, request: Any) -> Any:
        """A request of billing."""
        stub = BillingServiceStub(self.gateway.node.channel("auth"))
        return await getattr(stub, name)(request, timeout=T, metadata=self.metadata)

    async def key(self) -> tuple[str, str]:
        """A new key: its id and its secret."""
        stub = AuthServiceStub(self.gateway.node.channel("auth"))
        made = await stub.CreateKey(auth_pb2.CreateKeyRequest(name="billed"), timeout=T)
        return made.key.id, made.secret

    async def ask(self, secret: str, **headers: str) -> Answer:
        """A call with a key."""
        return await self.gateway.post(body=BODY, headers={"authorization": f"Bearer {secret}"} | headers)

    async def usage(self, *by: metrics_pb2.UsageDimension.ValueType, **wanted: Any) -> dict[str, tuple[int, int]]:
        """Usage by one dimension: its value -> what vendors ask, and what is charged."""
        request = metrics_pb2.QueryUsageRequest(group_by=by, **wanted)
        rows = (await self.gateway.metrics().QueryUsage(request, timeout=T)).rows
        return {"".join(row.values): (row.cost_nanos, row.charged_nanos) for row in rows}

    async def entries(self, key: str, count: int) -> list[Any]:
        """The charges of a key, once there are so many."""
        request = admin_pb2.ListEntriesRequest(filter=f'key_id = "{key}" AND kind = "settle"')
        async with asyncio.timeout(T):
            while len(found := (await self.admin("ListEntries", request)).entries) < count:
                await asyncio.sleep(0.05)
        return list(found)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(_elsewhere: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """See `Stage`."""
    async with Vendor() as vendor, running(tmp_path_factory.mktemp("gateway"), {"v": vendor.url}) as gateway:
        secret = (gateway.process.config.data_dir / "auth.db.admin").read_text().strip()
        yield Stage(gateway, (("polyroute-admin", secret),))


async def test_calls_that_no_budget_pays_for_are_on_the_ledger_and_in_soft_budgets(stage: Stage) -> None:
    """Once each, with the vendor's figure, the model and the deployment."""
    key, secret = await stage.key()
    budget = limits_pb2.Budget(scope=key, period=limits_pb2.PERIOD_TOTAL, amount_nanos=1, hard=False)
    await stage.admin("SetBudget", admin_pb2.SetBudgetRequest(budget=budget))
    answers = [await stage.ask(secret) for _ in range(3)]
    entries = await stage.entries(key, 3)
    listed = await stage.admin("ListBudgets", admin_pb2.ListBudgetsRequest(filter=f'scope = "{key}"'))
    audit = await stage.admin("AuditLedger", admin_pb2.AuditLedgerRequest())

    assert [200] * 3 == [answer.status for answer in answers]
    assert {answer.headers["x-request-id"] for answer in answers} == {entry.request_id for entry in entries}
    assert {("completed/2", "m")} == {(entry.rule, entry.model) for entry in entries}
    assert sum(entry.amount_nanos for entry in entries) == listed.budgets[0].spent_nanos > 0
    assert [] == list(audit.findings)


async def test_a_margin_is_held_and_charged(stage: Stage) -> None:
    """By a hard budget as well; what vendors ask stands beside it."""
    key, secret = await stage.key()
    budget = limits_pb2.Budget(scope=key, period=limits_pb2.PERIOD_TOTAL, amount_nanos=10**9, hard=True)
    await stage.admin("SetBudget", admin_pb2.SetBudgetRequest(budget=budget))
    margin = billing_pb2.Multiplier(group="*", millionths=1_250_000)
    await stage.billing("SetMultiplier", billing_pb2.SetMultiplierRequest(multiplier=margin))
    try:
        await stage.ask(secret)
        [entry] = await stage.entries(key, 1)
    finally:
        margin.millionths = 1_000_000
        await stage.billing("SetMultiplier", billing_pb2.SetMultiplierRequest(multiplier=margin))

    assert (entry.cost_nanos * 5 + 2) // 4 == entry.amount_nanos > entry.cost_nanos
    assert 1_250_000 == entry.multiplier_millionths


async def test_usage_is_what_the_ledger_charges(stage: Stage) -> None:
    """By key and by tag, with a budget and without one: to the nano-dollar, and so says the caller's own page."""
    margin = billing_pb2.Multiplier(group="*", millionths=1_333_337)
    await stage.billing("SetMultiplier", billing_pb2.SetMultiplierRequest(multiplier=margin))
    try:
        keys = dict([await stage.key(), await stage.key()])
        held, _ = keys
        budget = limits_pb2.Budget(scope=held, period=limits_pb2.PERIOD_TOTAL, amount_nanos=10**9, hard=True)
        await stage.admin("SetBudget", admin_pb2.SetBudgetRequest(budget=budget))
        tagged = {}
        for secret in keys.values():
            for team in ("a", "b", "b"):
                answer = await stage.ask(secret, **{"x-polyroute-tags": f"margin={team}"})
                tagged[answer.headers["x-request-id"]] = team
                await stage.gateway.recorded(answer)
        entries = [entry for key in keys for entry in await stage.entries(key, 3)]
    finally:
        margin.millionths = 1_000_000
        await stage.billing("SetMultiplier", billing_pb2.SetMultiplierRequest(multiplier=margin))
    by_key = await stage.usage(metrics_pb2.USAGE_DIMENSION_KEY)
    by_tag = await stage.usage(metrics_pb2.USAGE_DIMENSION_TAG, tag_names=["margin"])
    page = await stage.gateway.get("/dashboard/billing/usage", headers={"authorization": f"Bearer {keys[held]}"})

    def posted(name: str) -> tuple[int, int]:
        """The ledger's sums of a key, or of a tag."""
        some = [entry for entry in entries if name in (entry.key_id, tagged[entry.request_id])]
        return sum(entry.cost_nanos for entry in some), sum(entry.amount_nanos for entry in some)

    assert 6 == len(entries)
    assert {key: posted(key) for key in keys} == {key: by_key[key] for key in keys}
    assert {team: posted(team) for team in ("a", "b")} == {team: by_tag[team] for team in ("a", "b")}
    assert posted(held)[1] * 100 / 10**9 == page.json["total_usage"]
