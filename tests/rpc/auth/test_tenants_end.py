"""Accounts and projects are suspended, resumed and deleted; what the ledger says of them stays."""

import asyncio
from typing import Any

import grpc
import pytest

from polyroute.api.auth.v1 import (
    admin_pb2,
    auth_pb2,
    billing_pb2,
    billing_pb2_grpc,
    limits_pb2,
    tenants_pb2,
    tenants_pb2_grpc,
)
from polyroute.api.auth.v1.people_pb2 import VerifyAuditLogRequest
from polyroute.auth.wiring import Auth
from polyroute.mesh.errors import MeshError, from_rpc

T = 5.0

Metadata = tuple[tuple[str, str]]


class Office:
    """An operator, an account with one project and one key, and whoever asks whose that is."""

    def __init__(self, channel: Any, admin_stub: Any, auth_stub: Any, admin: Metadata) -> None:
        self._tenants = tenants_pb2_grpc.TenantServiceStub(channel)
        self._billing = billing_pb2_grpc.BillingServiceStub(channel)
        self._admin = admin_stub
        self._auth = auth_stub
        self._metadata = admin
        self.account = self.project = self.secret = ""

    async def ask(self, name: str, request: Any) -> Any:
        """An operator's request."""
        for stub in (self._tenants, self._billing, self._admin):
            if hasattr(stub, name):
                return await getattr(stub, name)(request, timeout=T, metadata=self._metadata)
        raise LookupError(name)

    async def refused(self, name: str, request: Any) -> MeshError:
        """A request that is refused."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.ask(name, request)
        return from_rpc(caught.value)

    async def why(self) -> str:
        """Why the key is refused; empty when it is not."""
        try:
            await self._auth.Authorize(auth_pb2.AuthorizeRequest(credential=self.secret), timeout=T)
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc(error)
            return refusal.metadata.get("cause") or error.code().name
        return ""

    async def events(self) -> list[str]:
        """What was done to either of them, oldest first; the log is whole."""
        request = admin_pb2.ListAuditEventsRequest(page_size=500, order_by="create_time")
        listed = (await self.ask("ListAuditEvents", request)).events
        assert (await self.ask("VerifyAuditLog", VerifyAuditLogRequest())).intact
        return [event.action for event in listed if event.resource in {self.account, self.project}]


@pytest.fixture
async def office(auth: Auth, channel: Any, admin_stub: Any, auth_stub: Any, admin: Metadata) -> Office:
    """See `Office`."""
    made = Office(channel, admin_stub, auth_stub, admin)
    account = admin_pb2.CreateAccountRequest(name="team", billing_mode=admin_pb2.BILLING_MODE_PREPAID)
    made.account = (await made.ask("CreateAccount", account)).account.id
    project = admin_pb2.CreateProjectRequest(account_id=made.account, name="p")
    made.project = (await made.ask("CreateProject", project)).project.id
    key = auth_pb2.CreateKeyRequest(project_id=made.project, name="k")
    made.secret = (await made.ask("IssueKey", admin_pb2.IssueKeyRequest(key=key))).secret
    return made


async def test_a_suspension_holds_until_it_is_lifted(office: Office) -> None:
    """The account's before the project's; repeating either changes nothing."""
    account, project = office.account, office.project
    seen = [await office.why()]
    for name, request in (
        ("SuspendProject", tenants_pb2.SuspendProjectRequest(project_id=project)),
        ("SuspendAccount", tenants_pb2.SuspendAccountRequest(account_id=account)),
        ("SuspendAccount", tenants_pb2.SuspendAccountRequest(account_id=account)),
        ("ResumeAccount", tenants_pb2.ResumeAccountRequest(account_id=account)),
        ("ResumeProject", tenants_pb2.ResumeProjectRequest(project_id=project)),
    ):
        await office.ask(name, request)
        seen.append(await office.why())
    suspended = "account_suspended"

    assert ["", "project_suspended", suspended, suspended, "project_suspended", ""] == seen
    assert ["SuspendProject", "SuspendAccount", "ResumeAccount", "ResumeProject"] == (await office.events())[2:]


async def test_a_change_is_pushed(office: Office, auth_stub: Any) -> None:
    """To whoever keeps verdicts, as a revocation is."""
    watch = auth_stub.WatchRevocations(auth_pb2.WatchRevocationsRequest())
    revision = (await watch.read()).revision
    await office.ask("SuspendAccount", tenants_pb2.SuspendAccountRequest(account_id=office.account))
    changed: set[str] = set()
    async with asyncio.timeout(1):
        while office.account not in changed:
            changed |= set((await watch.read()).changed_scopes)
    await office.ask("DeleteProject", tenants_pb2.DeleteProjectRequest(project_id=office.project))
    async with asyncio.timeout(1):
        while (message := await watch.read()).revision == revision:
            pass
    watch.cancel()

    assert 1 == len(message.key_ids)


async def test_what_is_deleted_is_gone_but_for_the_ledger(office: Office) -> None:
    """Its key is revoked, lists leave it out, its id still says what it was, and nothing can be made in it."""
    credit = admin_pb2.PostCreditRequest(account_id=office.account, amount_nanos=5, request_id="in")
    await office.ask("PostCredit", credit)
    gone = tenants_pb2.DeleteAccountRequest(account_id=office.account)
    rich = await office.refused("DeleteAccount", gone)
    back = admin_pb2.PostCreditRequest(account_id=office.account, amount_nanos=-5, request_id="out")
    await office.ask("PostCredit", back)
    stale = await office.refused(
        "DeleteAccount", tenants_pb2.DeleteAccountRequest(account_id=office.account, etag="other")
    )
    deleted = [(await office.ask("DeleteAccount", gone)).account.state for _ in range(2)]
    listed = [
        office.account in {one.id for one in (await office.ask("ListAccounts", request)).accounts}
        for request in (admin_pb2.ListAccountsRequest(), admin_pb2.ListAccountsRequest(show_deleted=True))
    ]
    project = (await office.ask("GetProject", admin_pb2.GetProjectRequest(project_id=office.project))).project
    entries = await office.ask("ListEntries", admin_pb2.ListEntriesRequest(filter=f'account_id = "{office.account}"'))
    key = auth_pb2.CreateKeyRequest(project_id=office.project)
    after = [
        await office.refused("IssueKey", admin_pb2.IssueKeyRequest(key=key)),
        await office.refused("CreateProject", admin_pb2.CreateProjectRequest(account_id=office.account, name="q")),
        await office.refused("ResumeAccount", tenants_pb2.ResumeAccountRequest(account_id=office.account)),
    ]

    assert (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED) == (rich.code, stale.code)
    assert [admin_pb2.TENANT_STATE_DELETED] * 2 == deleted
    assert ([False, True], admin_pb2.TENANT_STATE_DELETED, 2) == (listed, project.state, len(entries.entries))
    assert "UNAUTHENTICATED" == await office.why()
    assert ["NOT_FOUND", "FAILED_PRECONDITION", "FAILED_PRECONDITION"] == [error.code.name for error in after]
    assert ["DeleteProject", "DeleteAccount"] == (await office.events())[-2:]


async def test_a_subscription_keeps_a_project_unless_forced(office: Office) -> None:
    """It ends with it."""
    plan = billing_pb2.Plan(name="p", period=limits_pb2.PERIOD_DAILY, quota_nanos=7)
    await office.ask("SetPlan", billing_pb2.SetPlanRequest(plan=plan))
    await office.ask("CreateSubscription", billing_pb2.CreateSubscriptionRequest(scope=office.project, plan="p"))
    gone = tenants_pb2.DeleteProjectRequest(project_id=office.project)
    kept = await office.refused("DeleteProject", gone)
    gone.force = True
    await office.ask("DeleteProject", gone)
    listed = await office.ask("ListSubscriptions", billing_pb2.ListSubscriptionsRequest(account_id=office.account))
    audit = await office.ask("AuditLedger", admin_pb2.AuditLedgerRequest())

    assert grpc.StatusCode.FAILED_PRECONDITION == kept.code
    assert ([True], []) == ([one.ended for one in listed.subscriptions], list(audit.findings))


async def test_the_project_of_keys_without_one_stays(office: Office, auth_stub: Any, secret: str) -> None:
    """Or the first key that anybody makes would have no place."""
    authorize = auth_pb2.AuthorizeRequest(credential=secret)
    project = (await auth_stub.Authorize(authorize, timeout=T)).verdict.caller.project_id
    kept = await office.refused("DeleteProject", tenants_pb2.DeleteProjectRequest(project_id=project, force=True))

    assert grpc.StatusCode.FAILED_PRECONDITION == kept.code
