"""Keys that may not spend whatever their account has, through the whole gateway."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from bench.vendor import Vendor
from polyroute.api.auth.v1 import auth_pb2, billing_pb2, limits_pb2
from polyroute.api.auth.v1.billing_pb2_grpc import BillingServiceStub
from tests.mesh.gateway import Gateway, deployment, question, running

T = 5.0
FREE = {"input": "0", "output": "0"}
MODELS = {
    "m": {"deployments": [deployment("v")]},
    "gift": {"deployments": [deployment("v", "gift", price=FREE)]},
}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncGenerator[Gateway]:
    """With a model that costs something and one that does not."""
    edge = {"max_calls": "auto"}
    async with Vendor() as vendor, running(tmp_path, {"v": vendor.url}, MODELS, edge=edge) as started:
        yield started


async def test_narrow_keys_are_refused_what_they_may_not_spend(gateway: Gateway) -> None:
    """One waits for a plan, the other for nothing; both may use what is free, and the default key what it likes."""
    keys = {}
    for name in ("INCLUDED", "FREE"):
        scope = auth_pb2.KeyScope(spend_class=auth_pb2.SpendClass.Value(f"SPEND_CLASS_{name}"))
        keys[name] = await gateway.auth().CreateKey(auth_pb2.CreateKeyRequest(name=name, scope=scope), timeout=T)

    async def status(key: str, model: str) -> tuple[int, str]:
        headers = gateway.headers(authorization=f"Bearer {key}")
        answer = await gateway.post(body=question("hello", model, max_tokens=20), headers=headers)
        return answer.status, "" if answer.status == 200 else str(answer.error["message"])

    before = {(name, model): await status(made.secret, model) for name, made in keys.items() for model in MODELS}
    secret = (gateway.process.config.data_dir / "auth.db.admin").read_text().strip()
    billing, metadata = BillingServiceStub(gateway.node.channel("auth")), (("polyroute-admin", secret),)
    plan = billing_pb2.Plan(name="p", period=limits_pb2.PERIOD_DAILY, quota_nanos=10**9, overage=True)
    await billing.SetPlan(billing_pb2.SetPlanRequest(plan=plan), timeout=T, metadata=metadata)
    account = (await gateway.auth().Authorize(auth_pb2.AuthorizeRequest(credential=gateway.key), timeout=T)).verdict
    subscription = billing_pb2.CreateSubscriptionRequest(scope=account.caller.account_id, plan="p")
    await billing.CreateSubscription(subscription, timeout=T, metadata=metadata)
    after = {name: await status(made.secret, "m") for name, made in keys.items()}

    assert (200, "") == before["INCLUDED", "gift"] == before["FREE", "gift"]
    assert 429 == before["INCLUDED", "m"][0]
    assert "only what a plan includes" in before["INCLUDED", "m"][1]
    assert 403 == before["FREE", "m"][0] == after["FREE"][0]
    assert "only what is free" in before["FREE", "m"][1]
    assert (200, "") == after["INCLUDED"]
