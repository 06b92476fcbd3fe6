"""BillingService over each kind of channel."""

from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from polyroute.api.auth.v1 import admin_pb2, billing_pb2_grpc, ledger_pb2, limits_pb2
from polyroute.api.auth.v1 import billing_pb2 as pb
from polyroute.api.auth.v1.auth_pb2 import (
    AuthorizeRequest,
    Caller,
    LeaseLimitsRequest,
    LimitClaim,
    PlanInForce,
    PlanScope,
    Verdict,
)
from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT
from polyroute.auth.wiring import Auth

T = 5.0


async def test_the_life_of_an_account(
    auth: Auth,
    channel: Any,
    admin_stub: Any,
    auth_stub: Any,
    ledger_stub: Any,
    secret: str,
    admin: tuple[tuple[str, str]],
) -> None:
    """A code, a plan, a multiplier, calls, a statement and an invoice; each change in the log of changes."""
    billing = billing_pb2_grpc.BillingServiceStub(channel)

    async def ask(name: str, request: Any) -> Any:
        return await getattr(billing, name)(request, timeout=T, metadata=admin)

    before = (await auth_stub.Authorize(AuthorizeRequest(credential=secret), timeout=T)).verdict
    caller, account = before.caller, before.caller.account_id
    made = await ask("CreateCodes", pb.CreateCodesRequest(batch="b", count=2, amount_nanos=1000))
    paid = await ask("RedeemCode", pb.RedeemCodeRequest(account_id=account, code=made.secrets[0]))
    plan = pb.Plan(name="pro", period=limits_pb2.PERIOD_MONTHLY, price_nanos=100, quota_nanos=300, overage=True)
    await ask("SetPlan", pb.SetPlanRequest(plan=plan))
    subscribed = await ask("CreateSubscription", pb.CreateSubscriptionRequest(scope=caller.project_id, plan="pro"))
    await ask("SetMultiplier", pb.SetMultiplierRequest(multiplier=pb.Multiplier(group="g", millionths=2_000_000)))
    joined = await ask("SetAccountGroup", pb.SetAccountGroupRequest(account_id=account, group="g"))
    after = (await auth_stub.Authorize(AuthorizeRequest(credential=secret), timeout=T)).verdict
    payer = Caller(account_id=account, project_id=caller.project_id, key_id=caller.key_id)
    settlement = ledger_pb2.Settlement(
        request_id="r", attempt=1, cost_nanos=50, caller=payer, deployment="v/x", model="x"
    )
    await ledger_stub.Settle(ledger_pb2.SettleRequest(settlements=[settlement]), timeout=T)
    statement = (await ask("GetStatement", pb.GetStatementRequest(account_id=account))).statement
    request = pb.IssueInvoiceRequest(account_id=account, end_time=statement.end_time)
    request.end_time.FromMicroseconds(request.end_time.ToMicroseconds() - 1)
    issued = (await ask("IssueInvoice", request)).invoice
    listed = (await ask("ListInvoices", pb.ListInvoicesRequest())).invoices
    audit = await admin_stub.AuditLedger(admin_pb2.AuditLedgerRequest(), timeout=T, metadata=admin)
    events = await admin_stub.ListAuditEvents(admin_pb2.ListAuditEventsRequest(), timeout=T, metadata=admin)

    assert (0, 2_000_000, 2_000_000) == (before.multiplier_millionths, joined.millionths, after.multiplier_millionths)
    assert (1000, "pro") == (paid.entry.amount_nanos, subscribed.subscription.plan.name)
    [line] = statement.lines
    assert ("x", 50, 100) == (line.model, line.cost_nanos, line.amount_nanos)
    assert (1000, 200, 100, 1100) == (
        statement.paid_in_nanos,
        statement.plans_nanos,
        statement.spent_nanos,
        statement.closing_nanos,
    )
    assert (1100, [issued.number]) == (issued.statement.closing_nanos, [one.number for one in listed])
    assert ([], 100) == (list(audit.findings), audit.spent_nanos)
    actions = {event.action for event in events.events}
    assert {"CreateCodes", "RedeemCode", "SetPlan", "CreateSubscription", "SetMultiplier", "IssueInvoice"} <= actions
    assert made.secrets[1] not in repr(events)


async def test_nobody_bills_without_the_right(channel: Any) -> None:
    """Not even a look."""
    billing = billing_pb2_grpc.BillingServiceStub(channel)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await billing.ListPlans(pb.ListPlansRequest(), timeout=T)

    assert grpc.StatusCode.UNAUTHENTICATED == caught.value.code()


async def test_every_change_says_before_and_after_in_the_words_of_the_contract(
    channel: Any, admin_stub: Any, auth_stub: Any, secret: str, admin: tuple[tuple[str, str]]
) -> None:
    """Each state is the JSON of a message, empty where there was or is nothing."""
    billing = billing_pb2_grpc.BillingServiceStub(channel)

    async def ask(name: str, request: Any) -> Any:
        return await getattr(billing, name)(request, timeout=T, metadata=admin)

    account = (await auth_stub.Authorize(AuthorizeRequest(credential=secret), timeout=T)).verdict.caller.account_id
    made = await ask("CreateCodes", pb.CreateCodesRequest(batch="b", count=1, amount_nanos=1000))
    await ask("RedeemCode", pb.RedeemCodeRequest(account_id=account, code=made.secrets[0]))
    plan = pb.Plan(name="pro", period=limits_pb2.PERIOD_MONTHLY, price_nanos=100, quota_nanos=300, overage=True)
    for price in (100, 200):
        plan.price_nanos = price
        await ask("SetPlan", pb.SetPlanRequest(plan=plan))
    subscribed = (await ask("CreateSubscription", pb.CreateSubscriptionRequest(scope=account, plan="pro"))).subscription
    await ask("CancelSubscription", pb.CancelSubscriptionRequest(subscription_id=subscribed.id))
    for millionths in (2_000_000, 3_000_000):
        multiplier = pb.Multiplier(group="g", millionths=millionths)
        await ask("SetMultiplier", pb.SetMultiplierRequest(multiplier=multiplier))
    await ask("SetAccountGroup", pb.SetAccountGroupRequest(account_id=account, group="g"))
    alert = pb.Alert(scope=account, url="https://hooks.example.com/x", percents=[50])
    alert = (await ask("CreateAlert", pb.CreateAlertRequest(alert=alert))).alert
    alert.ClearField("etag")  # which is none of what was changed
    await ask("DeleteAlert", pb.DeleteAlertRequest(alert_id=alert.id))
    credit = admin_pb2.PostCreditRequest(account_id=account, amount_nanos=5, request_id="pay-1")
    await admin_stub.PostCredit(credit, timeout=T, metadata=admin)
    request = admin_pb2.ListAuditEventsRequest(page_size=100)
    listed = (await admin_stub.ListAuditEvents(request, timeout=T, metadata=admin)).events

    def states(action: str, kind: Any) -> list[tuple[Any, Any]]:
        said = [(event.before, event.after) for event in reversed(listed) if event.action == action]
        return [tuple(json_format.Parse(one, kind()) if one else None for one in pair) for pair in said]  # type: ignore[misc] # pairs

    [(none, codes)] = states("CreateCodes", pb.CreateCodesRequest)
    [(fresh, used)] = states("RedeemCode", pb.Code)
    [(_, began), *_] = states("CreateSubscription", pb.Subscription)
    [(running, ended)] = states("CancelSubscription", pb.Subscription)
    [(nobody, paid)] = states("PostCredit", admin_pb2.LedgerEntry)

    assert (None, 1, "", account) == (none, codes.count, fresh.redeemed_by, used.redeemed_by)
    assert [(None, 100), (100, 200)] == [
        (before and before.price_nanos, after.price_nanos) for before, after in states("SetPlan", pb.Plan)
    ]
    assert (subscribed.id, False, True) == (began.id, running.cancelled, ended.cancelled)
    assert [(None, 2_000_000), (2_000_000, 3_000_000)] == [
        (before and before.millionths, after.millionths) for before, after in states("SetMultiplier", pb.Multiplier)
    ]
    assert [("", "g")] == [
        (before.group, after.group) for before, after in states("SetAccountGroup", pb.SetAccountGroupRequest)
    ]
    assert [(None, alert)] == states("CreateAlert", pb.Alert)
    assert [(alert, None)] == states("DeleteAlert", pb.Alert)
    assert (None, "pay-1", 5) == (nobody, paid.request_id, paid.amount_nanos)


async def test_a_plan_says_more_than_money(
    channel: Any, auth_stub: Any, secret: str, admin: tuple[tuple[str, str]]
) -> None:
    """As it was set it is listed, subscribed to, told with a verdict and leased from; what is nonsense is refused."""
    billing = billing_pb2_grpc.BillingServiceStub(channel)

    async def ask(name: str, request: Any) -> Any:
        return await getattr(billing, name)(request, timeout=T, metadata=admin)

    async def verdict() -> Verdict:
        return (await auth_stub.Authorize(AuthorizeRequest(credential=secret), timeout=T)).verdict  # type: ignore[no-any-return] # the stub is typed by its generator

    opens = PlanScope(models=["small-*"], operations=[OPERATION_CHAT], routes=["/v1/*"])
    rate = pb.PlanLimit(kind=limits_pb2.LIMIT_KIND_REQUESTS, model="m", amount=6, burst=2)
    plan = pb.Plan(name="p", period=limits_pb2.PERIOD_TOTAL, overage=True, limits=[rate], opens=opens)
    before = await verdict()
    await ask("SetPlan", pb.SetPlanRequest(plan=plan))
    project = before.caller.project_id
    one = (await ask("CreateSubscription", pb.CreateSubscriptionRequest(scope=project, plan="p"))).subscription
    during = await verdict()
    claim = LimitClaim(scope=one.id, kind=rate.kind, model="m", needed=1, wanted=5)
    leased = await auth_stub.LeaseLimits(LeaseLimitsRequest(holder="edge", claims=[claim, claim]), timeout=T)
    [listed] = (await ask("ListPlans", pb.ListPlansRequest())).plans
    listed.ClearField("etag")
    ended = (await ask("CancelSubscription", pb.CancelSubscriptionRequest(subscription_id=one.id))).subscription
    lifted = await auth_stub.LeaseLimits(LeaseLimitsRequest(holder="edge", claims=[claim]), timeout=T)

    limit = limits_pb2.Limit(scope=one.id, kind=rate.kind, model="m", amount=6, burst=2)
    assert plan == listed == one.plan == ended.plan
    assert (PlanInForce(name="p", scope=project, opens=opens), [limit]) == (during.plan, list(during.limits))
    assert before.caller == during.caller
    assert not before.HasField("plan")
    assert [1, 1] == [share.granted for share in leased.shares]
    assert 5 == lifted.shares[0].granted
    for wrong in (
        pb.Plan(name="q", period=plan.period, limits=[rate, rate]),
        pb.Plan(name="q", period=plan.period, opens=PlanScope(routes=["v1"])),
        pb.Plan(name="q", period=plan.period, opens=PlanScope(models=["*m"])),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask("SetPlan", pb.SetPlanRequest(plan=wrong))
        assert grpc.StatusCode.INVALID_ARGUMENT == caught.value.code()
