"""The log of changes: an event for each change and for nothing else."""

import asyncio
from typing import Any

from polyroute.api.auth.v1 import (
    admin_pb2,
    auth_pb2,
    billing_pb2,
    billing_pb2_grpc,
    changes_pb2,
    changes_pb2_grpc,
    limits_pb2,
)
from polyroute.api.auth.v1.people_pb2 import VerifyAuditLogRequest
from polyroute.auth.wiring import Auth

T = 5.0
TIMES = 20

Metadata = tuple[tuple[str, str]]


async def events(admin_stub: Any, admin: Metadata, action: str) -> list[admin_pb2.AuditEvent]:
    """The events of an action, newest first; none of which was changed since."""
    request = admin_pb2.ListAuditEventsRequest(page_size=500)
    listed = (await admin_stub.ListAuditEvents(request, timeout=T, metadata=admin)).events
    verified = await admin_stub.VerifyAuditLog(VerifyAuditLogRequest(), timeout=T, metadata=admin)
    assert verified.intact
    return [event for event in listed if event.action == action]


async def test_a_payment_that_is_repeated_is_one_event(
    auth: Auth, admin_stub: Any, auth_stub: Any, secret: str, admin: Metadata
) -> None:
    """As it is one entry."""
    account = (
        await auth_stub.Authorize(auth_pb2.AuthorizeRequest(credential=secret), timeout=T)
    ).verdict.caller.account_id
    request = admin_pb2.PostCreditRequest(account_id=account, amount_nanos=5, request_id="inv-1")
    answers = await asyncio.gather(*(admin_stub.PostCredit(request, timeout=T, metadata=admin) for _ in range(TIMES)))

    assert 1 == len({answer.entry.id for answer in answers})
    assert 1 == len(await events(admin_stub, admin, "PostCredit"))


async def test_a_code_that_is_redeemed_at_once_by_many_is_one_event(
    auth: Auth, channel: Any, admin_stub: Any, auth_stub: Any, secret: str, admin: Metadata
) -> None:
    """Who comes second changes nothing."""
    billing = billing_pb2_grpc.BillingServiceStub(channel)
    account = (
        await auth_stub.Authorize(auth_pb2.AuthorizeRequest(credential=secret), timeout=T)
    ).verdict.caller.account_id
    wanted = billing_pb2.CreateCodesRequest(batch="b", count=1, amount_nanos=1000)
    made = await billing.CreateCodes(wanted, timeout=T, metadata=admin)
    request = billing_pb2.RedeemCodeRequest(account_id=account, code=made.secrets[0])
    await asyncio.gather(*(billing.RedeemCode(request, timeout=T, metadata=admin) for _ in range(TIMES)))

    assert 1 == len(await events(admin_stub, admin, "RedeemCode"))


async def test_what_is_as_it_was_is_no_event(
    auth: Auth, channel: Any, admin_stub: Any, auth_stub: Any, secret: str, admin: Metadata
) -> None:
    """Keys, plans, multipliers and subscriptions that are asked for twice."""
    billing = billing_pb2_grpc.BillingServiceStub(channel)
    account = (
        await auth_stub.Authorize(auth_pb2.AuthorizeRequest(credential=secret), timeout=T)
    ).verdict.caller.account_id
    plan = billing_pb2.Plan(name="p", period=limits_pb2.PERIOD_DAILY, quota_nanos=1)
    multiplier = billing_pb2.Multiplier(group="g", millionths=2_000_000)

    async def bill(name: str, request: Any) -> Any:
        return await getattr(billing, name)(request, timeout=T, metadata=admin)

    async def administer(name: str, request: Any) -> Any:
        return await getattr(admin_stub, name)(request, timeout=T, metadata=admin)

    new = auth_pb2.CreateKeyRequest(name="k", request_id="once")
    for _ in range(2):
        key = (await administer("IssueKey", admin_pb2.IssueKeyRequest(key=new))).key
        await administer("UpdateKey", admin_pb2.UpdateKeyRequest(key=auth_pb2.Key(id=key.id, name="other")))
        await bill("SetPlan", billing_pb2.SetPlanRequest(plan=plan))
        await bill("SetMultiplier", billing_pb2.SetMultiplierRequest(multiplier=multiplier))
        await bill("SetAccountGroup", billing_pb2.SetAccountGroupRequest(account_id=account, group="g"))
    subscribed = await bill("CreateSubscription", billing_pb2.CreateSubscriptionRequest(scope=account, plan="p"))
    for _ in range(2):
        ended = billing_pb2.CancelSubscriptionRequest(subscription_id=subscribed.subscription.id)
        await bill("CancelSubscription", ended)
        await administer("EndKey", admin_pb2.EndKeyRequest(key=key.id))
    actions = ("IssueKey", "UpdateKey", "SetPlan", "SetMultiplier", "SetAccountGroup", "CancelSubscription", "EndKey")

    assert [(action, 1) for action in actions] == [
        (action, len(await events(admin_stub, admin, action))) for action in actions
    ]


async def test_a_rotation_says_which_secret_was_and_is(
    auth: Auth, admin_stub: Any, auth_stub: Any, admin: Metadata
) -> None:
    """By their prefixes."""
    made = await auth_stub.CreateKey(auth_pb2.CreateKeyRequest(name="k"), timeout=T)
    rotated = await admin_stub.RotateKey(admin_pb2.RotateKeyRequest(key=made.key.id), timeout=T, metadata=admin)
    await auth_stub.RevokeKey(auth_pb2.RevokeKeyRequest(key=made.key.id), timeout=T)
    [event] = await events(admin_stub, admin, "RotateKey")
    [issued] = [one for one in await events(admin_stub, admin, "IssueKey") if one.resource == made.key.id]
    [ended] = await events(admin_stub, admin, "EndKey")

    assert (True, True) == (made.key.prefix in event.before, rotated.key.prefix in event.after)
    assert {"mesh"} == {one.actor.partition(":")[0] for one in (issued, ended)}


async def test_a_change_of_another_role_is_written_down_once(
    auth: Auth, channel: Any, admin_stub: Any, admin: Metadata
) -> None:
    """In the same chain, with who, when, what, before and after."""
    stub = changes_pb2_grpc.ChangeLogServiceStub(channel)
    change = changes_pb2.RecordedChange(
        id="c1", actor="local:ann@vm", action="ApplyCatalog", resource="catalog", before='{"number":1}', after="{}"
    )
    change.time.FromMicroseconds(1_000_001)
    for _ in range(2):
        await stub.RecordChanges(changes_pb2.RecordChangesRequest(changes=[change, change]), timeout=T)
    [event] = await events(admin_stub, admin, "ApplyCatalog")

    assert ("local:ann@vm", "catalog", '{"number":1}', "{}") == (
        event.actor,
        event.resource,
        event.before,
        event.after,
    )
    assert 1_000_001 == event.time.ToMicroseconds()
