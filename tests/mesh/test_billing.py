"""Every call through the doors is on the ledger, with a budget and without one."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio

from bench.vendor import Vendor
from polyroute.api.auth.v1 import admin_pb2, auth_pb2, billing_pb2, limits_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from polyroute.api.auth.v1.billing_pb2_grpc import BillingServiceStub
from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.gateway.v1 import gateway_pb2
from polyroute.api.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.mesh.errors import from_rpc
from tests.mesh.gateway import Answer, Gateway, deployment, grpc_door, running

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
    models = {"m": {"deployments": [deployment("v")]}, "unpriced": {"deployments": ["v/unpriced"]}}
    async with Vendor() as vendor, running(tmp_path_factory.mktemp("gateway"), {"v": vendor.url}, models) as gateway:
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


async def test_usage_follows_corrections(stage: Stage) -> None:
    """In every report, and in the list of calls; the newest stands, and what it was before is forgotten."""
    key, secret = await stage.key()
    answer = await stage.ask(secret, **{"x-polyroute-tags": "corrected=yes"})
    await stage.gateway.recorded(answer)
    await stage.entries(key, 1)
    call = answer.headers["x-request-id"]
    for revision, cost in ((1, 77_000), (2, 31)):
        request = admin_pb2.PostCorrectionRequest(request_id=call, attempt=1, cost_nanos=cost, revision=revision)
        await stage.admin("PostCorrection", request)
    async with asyncio.timeout(T):
        while (by_key := await stage.usage(metrics_pb2.USAGE_DIMENSION_KEY, key_id=key)) != {key: (31, 31)}:
            await asyncio.sleep(0.02)
    by_tag = await stage.usage(metrics_pb2.USAGE_DIMENSION_TAG, tag_names=["corrected"], key_id=key)
    by_hour = await stage.usage(metrics_pb2.USAGE_DIMENSION_HOUR, key_id=key)
    record = await stage.gateway.record(call)

    assert {"yes": (31, 31)} == by_tag
    assert [(31, 31)] == list(by_hour.values())
    assert {key: (31, 31)} == by_key
    assert (31, 31, "correction") == (record.cost_nanos, record.charged_nanos, record.charges[0].rule)


async def test_a_margin_that_is_set_after_a_call_is_not_for_it(stage: Stage) -> None:
    """Also where it is posted later: its record was made with the margin of its own time."""
    key, secret = await stage.key()
    margin = billing_pb2.Multiplier(group="*", millionths=3_000_000)
    answer = await stage.ask(secret)
    await stage.billing("SetMultiplier", billing_pb2.SetMultiplierRequest(multiplier=margin))
    try:
        [entry] = await stage.entries(key, 1)
        record = await stage.gateway.recorded(answer)
    finally:
        margin.millionths = 1_000_000
        await stage.billing("SetMultiplier", billing_pb2.SetMultiplierRequest(multiplier=margin))

    assert (1_000_000, entry.cost_nanos) == (entry.multiplier_millionths, entry.amount_nanos)
    assert record.charged_nanos == entry.amount_nanos


async def test_a_hard_budget_refuses_what_has_no_price(stage: Stage) -> None:
    """What cannot be counted cannot be bounded; each door says so in its own way, and nothing is sent."""
    key, secret = await stage.key()
    budget = limits_pb2.Budget(scope=key, period=limits_pb2.PERIOD_TOTAL, amount_nanos=10**9, hard=True)
    await stage.admin("SetBudget", admin_pb2.SetBudgetRequest(budget=budget))
    headers, body = {"authorization": f"Bearer {secret}"}, {**BODY, "model": "unpriced"}
    part = chat_pb2.Part(text=chat_pb2.TextPart(text="hi"))
    message = chat_pb2.Message(role=chat_pb2.ROLE_USER, parts=[part])

    chat = await stage.gateway.post(body=body, headers=headers)
    responses = await stage.gateway.post("/v1/responses", {"model": "unpriced", "input": "hi"}, headers=headers)
    messages = await stage.gateway.post("/v1/messages", body, headers=headers)
    path, contents = "/v1beta/models/unpriced:generateContent", [{"role": "user", "parts": [{"text": "hi"}]}]
    gemini = await stage.gateway.post(path, {"contents": contents}, headers=headers)
    asked = gateway_pb2.ChatRequest(chat=chat_pb2.ChatRequest(model="unpriced", messages=[message]))
    async with grpc_door(stage.gateway) as channel:
        call = GatewayServiceStub(channel).Chat(asked, timeout=T, metadata=tuple(headers.items()))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(aiter(call))

    assert {400} == {answer.status for answer in (chat, responses, messages, gemini)}
    assert {"model_price_unknown"} == {chat.error["code"], responses.error["code"]}
    assert "invalid_request_error" == messages.error["type"]
    assert "MODEL_PRICE_UNKNOWN" == gemini.error["details"][0]["reason"]
    told = from_rpc(refused.value)
    assert (errors_pb2.REASON_NO_DEPLOYMENT, "model_price_unknown") == (told.reason, told.metadata["cause"])


async def test_apps_see_what_bounds_a_key(stage: Stage) -> None:
    """The hard budget with the least left; a soft one bounds nothing, and without any the limit is far."""
    key, secret = await stage.key()

    async def limit() -> Any:
        page = await stage.gateway.get(
            "/v1/dashboard/billing/subscription", headers={"authorization": f"Bearer {secret}"}
        )
        return page.json["hard_limit_usd"], page.json["system_hard_limit_usd"]

    far = await limit()
    seen = []
    for nanos, period, hard in (
        (10**9, limits_pb2.PERIOD_DAILY, False),
        (5 * 10**9, limits_pb2.PERIOD_MONTHLY, True),
        (2_500_000_000, limits_pb2.PERIOD_TOTAL, True),
    ):
        budget = limits_pb2.Budget(scope=key, period=period, amount_nanos=nanos, hard=hard)
        await stage.admin("SetBudget", admin_pb2.SetBudgetRequest(budget=budget))
        seen.append(await limit())
    await stage.ask(secret)

    assert (100_000_000, 100_000_000) == far
    assert [far, (5.0, 5.0), (2.5, 2.5)] == seen
    assert (2.5, 2.5) == await limit()


async def test_apps_see_a_balance(stage: Stage) -> None:
    """Of an account that pays in advance, what is left of it."""
    created = await stage.admin(
        "CreateAccount", admin_pb2.CreateAccountRequest(name="ahead", billing_mode=admin_pb2.BILLING_MODE_PREPAID)
    )
    account = created.account.id
    made = await stage.admin("CreateProject", admin_pb2.CreateProjectRequest(account_id=account, name="p"))
    credit = admin_pb2.PostCreditRequest(account_id=account, amount_nanos=3 * 10**9, request_id="paid-in")
    await stage.admin("PostCredit", credit)
    stub = AuthServiceStub(stage.gateway.node.channel("auth"))
    key = await stub.CreateKey(auth_pb2.CreateKeyRequest(project_id=made.project.id, name="k"), timeout=T)
    headers = {"authorization": f"Bearer {key.secret}"}

    page = await stage.gateway.get("/dashboard/billing/subscription", headers=headers)

    assert 3.0 == page.json["hard_limit_usd"]
