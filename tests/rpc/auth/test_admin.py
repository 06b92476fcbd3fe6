"""AdminService as the command line meets it."""

import asyncio
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from polyroute.api.auth.v1 import admin_pb2 as pb
from polyroute.api.auth.v1 import auth_pb2, ledger_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from polyroute.api.auth.v1.auth_pb2 import CreateKeyRequest, KeyScope
from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from polyroute.api.auth.v1.ledger_pb2_grpc import LedgerServiceStub
from polyroute.api.auth.v1.limits_pb2 import (
    LIMIT_KIND_REQUESTS,
    LIMIT_KIND_TOKENS,
    PERIOD_DAILY,
    PERIOD_TOTAL,
    Budget,
    Limit,
)
from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, OPERATION_EMBEDDING
from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.wiring import Auth
from polyroute.mesh.errors import MeshError, from_rpc
from tests.rpc.auth.cast import ADMIN, empty

T = 5.0
Ask = Callable[..., Awaitable[Any]]


@pytest.fixture
def ask(admin_stub: AdminServiceStub, admin: Any) -> Ask:
    """Asks as an administrator: `await ask("CreateAccount", name="team")`."""

    async def send(method: str, **fields: Any) -> Any:
        request = getattr(pb, f"{method}Request")(**fields)
        return await getattr(admin_stub, method)(request, timeout=T, metadata=admin)

    return send


async def refusal(call: Awaitable[Any]) -> MeshError:
    """The error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return from_rpc(refused.value)


async def verdict(stub: AuthServiceStub, secret: str) -> auth_pb2.Verdict:
    """What auth says of a key."""
    return (await stub.Authorize(auth_pb2.AuthorizeRequest(credential=secret), timeout=T)).verdict


METHODS = sorted(method.name for method in pb.DESCRIPTOR.services_by_name["AdminService"].methods)


@pytest.mark.parametrize("kind", ["local"], indirect=True)
@pytest.mark.parametrize("method", METHODS)
async def test_nobody_gets_in_without_the_secret(admin_stub: AdminServiceStub, method: str) -> None:
    """Whatever is asked: nothing presented, or the wrong thing."""
    for metadata, reason in (
        ((), errors_pb2.REASON_CREDENTIAL_MISSING),
        ((("polyroute-admin", "pa-guess"),), errors_pb2.REASON_CREDENTIAL_INVALID),
    ):
        request = empty(ADMIN.methods_by_name[method])
        refused = await refusal(getattr(admin_stub, method)(request, timeout=T, metadata=metadata))

        assert (reason, grpc.StatusCode.UNAUTHENTICATED) == (refused.reason, refused.code)


def test_secret_exists_before_anything_listens(auth: Auth, tmp_path: Path) -> None:
    """In a file for its owner only, and it is no default."""
    path = tmp_path / "data" / "auth.db.admin"

    assert auth.admin_secret == path.read_text().strip()
    assert 46 == len(auth.admin_secret)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


async def test_account_project_and_key(ask: Ask, auth_stub: AuthServiceStub) -> None:
    """Created, found, listed and renamed; the key calls for them."""
    account = (await ask("CreateAccount", name="team")).account
    project = (await ask("CreateProject", account_id=account.id, name="web")).project
    issued = await ask("IssueKey", key=CreateKeyRequest(project_id=project.id, name="ci"))
    caller = (await verdict(auth_stub, issued.secret)).caller
    renamed = (await ask("UpdateProject", project=pb.Project(id=project.id, name="shop"))).project

    assert (account.id, project.id, issued.key.id) == (caller.account_id, caller.project_id, caller.key_id)
    assert pb.BILLING_MODE_POSTPAID == account.billing_mode
    assert renamed == (await ask("GetProject", project_id=project.id)).project
    assert ["shop"] == [
        found.name for found in (await ask("ListProjects", filter=f'account_id = "{account.id}"')).projects
    ]
    assert issued.key == (await ask("GetKey", key=issued.key.prefix)).key
    assert [issued.key.id] == [key.id for key in (await ask("SearchKeys", filter=f'project_id = "{project.id}"')).keys]


async def test_what_is_not_there_is_not_found(ask: Ask) -> None:
    """And nothing is made for it."""
    for method, fields in (
        ("GetAccount", {"account_id": "acc_x"}),
        ("GetProject", {"project_id": "prj_x"}),
        ("GetKey", {"key": "key_x"}),
        ("CreateProject", {"account_id": "acc_x", "name": "n"}),
        ("SetLimit", {"limit": Limit(scope="key_x", kind=LIMIT_KIND_REQUESTS, amount=1)}),
        ("SetBudget", {"budget": Budget(scope="nothing", period=PERIOD_TOTAL)}),
        ("PostCredit", {"account_id": "acc_x", "amount_nanos": 1, "request_id": "r"}),
        ("PostCorrection", {"request_id": "r", "attempt": 1, "revision": 1}),
        ("UpdateKey", {"key": auth_pb2.Key(id="key_x", name="n")}),
    ):
        assert errors_pb2.REASON_NOT_FOUND == (await refusal(ask(method, **fields))).reason


async def test_pages_hold_everything_once(ask: Ask) -> None:
    """Newest first; a token that is not ours is refused."""
    made = [(await ask("CreateAccount", name=f"a{number}")).account.id for number in range(5)]
    found, token = [], ""
    while True:
        page = await ask("ListAccounts", page_size=2, page_token=token)
        found += [account.id for account in page.accounts]
        token = page.next_page_token
        if not token:
            break

    assert made[::-1] == found[:5]
    assert 6 == len(found)
    for fields in ({"page_token": "x"}, {"filter": "name ~ 1"}, {"filter": 'secret = "x"'}):
        assert errors_pb2.REASON_INVALID_REQUEST == (await refusal(ask("ListAccounts", **fields))).reason


async def test_scope_of_a_key_is_in_its_verdict(ask: Ask, auth_stub: AuthServiceStub) -> None:
    """And a change of it as soon as it is made; only what the mask names is changed."""
    scope = KeyScope(
        operations=[OPERATION_CHAT],
        routes=["/v1/*"],
        source_ranges=["10.0.0.0/8"],
        provider_defaults=b'{"sort":"price"}',
        tags={"team": "red"},
    )
    issued = await ask("IssueKey", key=CreateKeyRequest(models=["m"], scope=scope))
    before = await verdict(auth_stub, issued.secret)
    wanted = auth_pb2.Key(id=issued.key.id, name="new", scope=KeyScope(operations=[OPERATION_EMBEDDING]))
    await ask("UpdateKey", key=wanted, update_mask=FieldMask(paths=["scope", "expire_time"]))
    after = await verdict(auth_stub, issued.secret)

    assert (scope, ["m"]) == (before.scope, list(before.models))
    assert (wanted.scope, ["m"], "") == (after.scope, list(after.models), after.caller.key_name)
    refused = await refusal(ask("UpdateKey", key=wanted, update_mask=FieldMask(paths=["creator_key_id"])))
    assert errors_pb2.REASON_INVALID_REQUEST == refused.reason


async def test_key_grants_no_more_than_its_creator_has(ask: Ask) -> None:
    """Neither models nor time nor another project, and nothing at all when its own money or rate is bounded."""
    parent = (await ask("IssueKey", key=CreateKeyRequest(models=["a"], lifetime=Duration(seconds=90)))).key

    async def create(**fields: Any) -> Any:
        return await ask("IssueKey", key=CreateKeyRequest(creator_key=parent.id, **fields))

    child = (await create(models=["a"], lifetime=Duration(seconds=60))).key
    reasons = {
        (await refusal(create(**fields))).reason
        for fields in (
            {"models": ["a"]},
            {"models": ["b"], "lifetime": Duration(seconds=60)},
            {"lifetime": Duration(seconds=60)},
            {"models": ["a"], "lifetime": Duration(seconds=60), "project_id": "prj_other"},
        )
    }
    await ask("SetLimit", limit=Limit(scope=parent.id, kind=LIMIT_KIND_REQUESTS, amount=1))
    bounded = await refusal(create(models=["a"], lifetime=Duration(seconds=60)))

    assert parent.id == child.creator_key_id
    assert {errors_pb2.REASON_NOT_PERMITTED} == reasons
    assert (errors_pb2.REASON_NOT_PERMITTED, "creator_key") == (bounded.reason, bounded.metadata["param"])


async def test_replaced_secret_works_for_a_while(ask: Ask, auth_stub: AuthServiceStub) -> None:
    """Under the same key; with no overlap, not at all."""
    issued = await ask("IssueKey", key=CreateKeyRequest(name="ci"))
    await verdict(auth_stub, issued.secret)
    first = await ask("RotateKey", key=issued.key.id)
    old, new = await verdict(auth_stub, issued.secret), await verdict(auth_stub, first.secret)
    second = await ask("RotateKey", key=issued.key.id, overlap=Duration())
    ended = await refusal(verdict(auth_stub, first.secret))
    await ask("EndKey", key=issued.key.id)
    revoked = [(await refusal(verdict(auth_stub, secret))).reason for secret in (issued.secret, second.secret)]

    assert old.caller.key_id == new.caller.key_id == issued.key.id
    assert (True, False) == (old.HasField("expire_time"), new.HasField("expire_time"))
    assert errors_pb2.REASON_CREDENTIAL_INVALID == ended.reason
    assert [errors_pb2.REASON_CREDENTIAL_INVALID] * 2 == revoked


async def test_limits_and_budgets_are_in_the_verdict(ask: Ask, auth_stub: AuthServiceStub) -> None:
    """Of the key, its project and its account; the purse is the lowest that has a hard budget."""
    issued = await ask("IssueKey", key=CreateKeyRequest())
    caller = (await verdict(auth_stub, issued.secret)).caller
    limits = [
        Limit(scope=caller.key_id, kind=LIMIT_KIND_REQUESTS, amount=60),
        Limit(scope=caller.account_id, kind=LIMIT_KIND_TOKENS, model="m", amount=1000, burst=10),
    ]
    for limit in limits:
        await ask("SetLimit", limit=limit)
    soft = await ask("SetBudget", budget=Budget(scope=caller.key_id, period=PERIOD_TOTAL, amount_nanos=5))
    hard = await ask(
        "SetBudget", budget=Budget(scope=caller.project_id, period=PERIOD_DAILY, amount_nanos=5, hard=True)
    )
    found = await verdict(auth_stub, issued.secret)
    await ask("DeleteBudget", budget_id=hard.budget.id)
    await ask("DeleteLimit", limit=limits[0])
    less = await verdict(auth_stub, issued.secret)

    assert limits == sorted(found.limits, key=lambda limit: limit.kind)
    assert (caller.project_id, "") == (found.purse, less.purse)
    assert limits[1:] == list(less.limits)
    assert [soft.budget.id] == [budget.id for budget in (await ask("ListBudgets")).budgets]
    [listed] = (await ask("ListLimits")).limits
    listed.ClearField("etag")
    assert limits[1:] == [listed]
    assert hard.budget.end_time.seconds - hard.budget.start_time.seconds == 86_400


async def test_filters_of_every_list(ask: Ask) -> None:
    """In every database the same: signs, times, names, flags, what is not set, and numbers that no column has."""
    issued = await ask("IssueKey", key=CreateKeyRequest(name="filtered 100%"))
    project, key = issued.key.project_id, issued.key.id
    budget = (
        await ask("SetBudget", budget=Budget(scope=project, period=PERIOD_DAILY, amount_nanos=5, hard=True))
    ).budget.id
    await ask("SetLimit", limit=Limit(scope=key, kind=LIMIT_KIND_REQUESTS, amount=60))
    for method, text, members, found in (
        ("SearchKeys", f'id = {key} AND name:"filtered*" AND -revoked = true AND NOT expire_time:*', "keys", 1),
        (
            "SearchKeys",
            f'id = {key} AND (name:"100%" AND name != "x") AND create_time > 2020-01-01T00:00:00Z',
            "keys",
            1,
        ),
        ("SearchKeys", f"id = {key} AND (revoke_time < 2099-01-01T00:00:00Z OR name:FILTERED)", "keys", 0),
        ("ListBudgets", f"id = {budget} AND hard = true AND period = daily AND amount_nanos <= 5", "budgets", 1),
        ("ListBudgets", f"id = {budget} AND (prepaid = true OR amount_nanos > 9223372036854775807)", "budgets", 0),
        ("ListLimits", f"scope = {key} AND kind = LIMIT_KIND_REQUESTS AND burst >= 0", "limits", 1),
        (
            "ListEntries",
            "attempt < 9223372036854775807 AND kind = grant AND debit = plan AND cost_nanos:*",
            "entries",
            0,
        ),
        ("ListAuditEvents", f'resource = "{budget}" AND action:Set* AND id > 0', "events", 1),
    ):
        assert found == len(getattr(await ask(method, filter=text), members)), text


async def test_nonsense_is_refused(ask: Ask) -> None:
    """Where it is set."""
    for method, fields in (
        ("SetBudget", {"budget": Budget(scope="key_x")}),
        ("SetBudget", {"budget": Budget(scope="key_x", period=PERIOD_TOTAL, amount_nanos=-1)}),
        ("SetBudget", {"budget": Budget(scope="key_x", period=PERIOD_TOTAL, prepaid=True)}),
        ("SetLimit", {"limit": Limit(scope="key_x")}),
        ("IssueKey", {"key": CreateKeyRequest(scope=KeyScope(source_ranges=["here"]))}),
        ("ListEntries", {"filter": 'kind = "gift"'}),
    ):
        assert errors_pb2.REASON_INVALID_REQUEST == (await refusal(ask(method, **fields))).reason


async def test_time_zone_must_exist(ask: Ask, auth_stub: AuthServiceStub, secret: str) -> None:
    """Before a budget waits for its midnight."""
    key_id = (await verdict(auth_stub, secret)).caller.key_id
    budget = Budget(scope=key_id, period=PERIOD_DAILY, time_zone="Mars/Olympus")

    assert "time_zone" == (await refusal(ask("SetBudget", budget=budget))).metadata["param"]


async def test_account_that_pays_in_advance(ask: Ask, ledger_stub: LedgerServiceStub) -> None:
    """Spends what was paid in and no more; payments are posted once."""
    account = (await ask("CreateAccount", name="team", billing_mode=pb.BILLING_MODE_PREPAID)).account
    caller = auth_pb2.Caller(account_id=account.id, project_id="prj_1", key_id="key_1")
    entries = [
        (await ask("PostCredit", account_id=account.id, amount_nanos=100, request_id="inv-1", note="n")).entry
        for _ in range(2)
    ]
    hold = ledger_pb2.HoldRequest(request_id="r", caller=caller, amount_nanos=100)
    held = (await ledger_stub.Hold(hold, timeout=T)).held_nanos
    poor = await refusal(
        ledger_stub.Hold(ledger_pb2.HoldRequest(request_id="s", caller=caller, amount_nanos=1), timeout=T)
    )
    settlement = ledger_pb2.Settlement(request_id="r", attempt=1, caller=caller, cost_nanos=30, final=True)
    posted = [
        (await ledger_stub.Settle(ledger_pb2.SettleRequest(settlements=[settlement]), timeout=T)).posted
        for _ in range(2)
    ]
    [balance] = (await ask("ListBudgets", filter=f'scope = "{account.id}"')).budgets
    corrected = (await ask("PostCorrection", request_id="r", attempt=1, cost_nanos=20, revision=1)).entry
    found = await ask("AuditLedger")

    assert entries[0] == entries[1]
    assert ("paid", "available", 100, "n") == (
        entries[0].debit,
        entries[0].credit,
        entries[0].amount_nanos,
        entries[0].note,
    )
    assert (100, [1, 0]) == (held, posted)
    assert (errors_pb2.REASON_BUDGET_EXHAUSTED, account.id) == (poor.reason, poor.metadata["subject"])
    assert (100, 30, 0, True) == (balance.amount_nanos, balance.spent_nanos, balance.held_nanos, balance.prepaid)
    assert ("spent", "available", 10) == (corrected.debit, corrected.credit, corrected.amount_nanos)
    assert ([], 0, 20) == (list(found.findings), found.held_nanos, found.spent_nanos)


async def test_hold_that_is_void(ask: Ask, ledger_stub: LedgerServiceStub) -> None:
    """Nothing was sent to any vendor, so nothing is held."""
    caller = auth_pb2.Caller(account_id="acc_1", project_id="prj_1", key_id="key_1")
    await ledger_stub.Hold(ledger_pb2.HoldRequest(request_id="r", caller=caller, amount_nanos=9), timeout=T)
    during = (await ask("AuditLedger")).held_nanos
    await ledger_stub.Void(ledger_pb2.VoidRequest(request_id="r"), timeout=T)

    assert (9, 0) == (during, (await ask("AuditLedger")).held_nanos)


async def test_every_change_is_written_down(ask: Ask) -> None:
    """Who, what, before and after; no secret."""
    issued = await ask("IssueKey", key=CreateKeyRequest(name="ci"))
    await ask("UpdateKey", key=auth_pb2.Key(id=issued.key.id, name="new"))
    await ask("RotateKey", key=issued.key.id)
    for _ in range(2):
        await ask("EndKey", key=issued.key.id)
    events = (await ask("ListAuditEvents", filter=f'resource = "{issued.key.id}"')).events

    assert ["EndKey", "RotateKey", "UpdateKey", "IssueKey"] == [event.action for event in events]
    assert {"admin"} == {event.actor for event in events}
    assert '"name":"ci"' in events[2].before
    assert '"name":"new"' in events[2].after
    assert all(issued.secret not in event.before + event.after for event in events)


async def test_change_is_pushed_to_those_who_keep_verdicts(ask: Ask, auth_stub: AuthServiceStub, secret: str) -> None:
    """By the scope that has changed."""
    caller = (await verdict(auth_stub, secret)).caller
    watch = auth_stub.WatchRevocations(auth_pb2.WatchRevocationsRequest(), timeout=T)
    await watch.read()
    await ask("SetLimit", limit=Limit(scope=caller.project_id, kind=LIMIT_KIND_REQUESTS, amount=1))
    async with asyncio.timeout(T):
        told: Any = await watch.read()
    watch.cancel()

    assert [caller.project_id] == list(told.changed_scopes)
