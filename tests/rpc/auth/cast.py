"""Two tenants and everybody who may ask for something in the first: every role, as a person and as a key."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from polyroute.api.auth.v1 import admin_pb2 as pb
from polyroute.api.auth.v1 import admission_pb2, billing_pb2, people_pb2, tenants_pb2
from polyroute.api.auth.v1.auth_pb2 import CreateKeyRequest, KeyScope, MemberRole
from polyroute.api.auth.v1.limits_pb2 import LIMIT_KIND_REQUESTS, PERIOD_TOTAL, Budget, Limit
from polyroute.api.gateway.v1 import usage_pb2
from polyroute.auth.people.known import NewPerson
from polyroute.auth.people.roles import Role
from polyroute.auth.people.rules import Kind
from polyroute.auth.wiring import Auth

T = 30.0
Metadata = tuple[tuple[str, str], ...]


@dataclass
class Tenant:
    """An account and what is in it."""

    account: str
    project: str
    key: str
    secret: str
    names: Mapping[Kind, str] = field(default_factory=dict)


@dataclass
class Cast:
    """Everybody.

    Attributes:
        admin: What the operator presents.
        ours: The tenant whose people ask.
        others: The tenant whose things are none of theirs.
        callers: `person` or `key`, and role -> what they present.
    """

    channel: Any
    admin: Metadata
    ours: Tenant
    others: Tenant
    callers: dict[tuple[str, Role], Metadata]

    async def ask(self, method: MethodDescriptor, request: Any, metadata: Metadata) -> Any:
        """Calls a method by its description; asks whether one may be called that another role serves."""
        if method.containing_service not in SERVED:
            request = admission_pb2.AdmitRequest(
                method=method.full_name,
                account_id=getattr(request, "account_id", ""),
                project_id=getattr(request, "project_id", ""),
            )
            method = ADMIT
        return await call(self.channel, method, request, metadata)

    async def renewed(self, tenant: Tenant) -> Tenant:
        """The tenant with a budget and an invitation that nobody has taken away yet."""
        budget = Budget(scope=tenant.project, period=PERIOD_TOTAL, amount_nanos=1)
        made = await admin_call(self.channel, "SetBudget", pb.SetBudgetRequest(budget=budget), self.admin)
        wanted = people_pb2.CreateInvitationRequest(account_id=tenant.account, email="new@example.com")
        invited = await admin_call(self.channel, "CreateInvitation", wanted, self.admin)
        tenant.names = {
            Kind.ACCOUNT: tenant.account,
            Kind.PROJECT: tenant.project,
            Kind.KEY: tenant.key,
            Kind.SCOPE: tenant.project,
            Kind.BUDGET: made.budget.id,
            Kind.INVITATION: invited.invitation.id,
        }
        return tenant


def bearer(token: str) -> Metadata:
    """As HTTP's door hands it on."""
    return (("authorization", f"Bearer {token}"),)


def empty(method: MethodDescriptor) -> Any:
    """A request that says nothing yet."""
    return message_factory.GetMessageClass(method.input_type)()


async def call(channel: Any, method: MethodDescriptor, request: Any, metadata: Metadata) -> Any:
    """Calls a method by its description."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    answer = message_factory.GetMessageClass(method.output_type)
    stub = channel.unary_unary(
        path, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
    )
    return await stub(request, timeout=T, metadata=metadata)


async def admin_call(channel: Any, method: str, request: Any, metadata: Metadata) -> Any:
    """Calls a method of AdminService by its name."""
    return await call(channel, ADMIN.methods_by_name[method], request, metadata)


async def assemble(auth: Auth, channel: Any, admin: Metadata) -> Cast:
    """The cast of an installation."""

    async def operator(method: str, request: Any) -> Any:
        return await admin_call(channel, method, request, admin)

    async def tenant(name: str) -> Tenant:
        account = (await operator("CreateAccount", pb.CreateAccountRequest(name=name))).account.id
        project = (await operator("CreateProject", pb.CreateProjectRequest(account_id=account, name=name))).project.id
        wanted = CreateKeyRequest(project_id=project, name=name)
        issued = await operator("IssueKey", pb.IssueKeyRequest(key=wanted))
        for scope in (account, project):
            limit = Limit(scope=scope, kind=LIMIT_KIND_REQUESTS, amount=5)
            await operator("SetLimit", pb.SetLimitRequest(limit=limit))
        await operator("PostCredit", pb.PostCreditRequest(account_id=account, amount_nanos=9, request_id=account))
        return Tenant(account, project, issued.key.id, issued.secret)

    ours, others = await tenant("ours"), await tenant("others")
    cast = Cast(channel, admin, ours, others, {})
    for role in Role:
        new = NewPerson(f"{role.name}@example.com", role.name, verified=True)
        arrival = await auth.reception.registrar.admit(new, ours.account, role)
        pair = await auth.reception.sessions.begin(arrival.person.id)
        cast.callers["person", role] = bearer(pair.access)
        scope = KeyScope(admin_role=MemberRole.ValueType(role))
        wanted = CreateKeyRequest(project_id=ours.project, name=role.name, scope=scope)
        issued = await operator("IssueKey", pb.IssueKeyRequest(key=wanted))
        cast.callers["key", role] = bearer(issued.secret)
    await cast.renewed(ours)
    await cast.renewed(others)
    return cast


ADMIN = pb.DESCRIPTOR.services_by_name["AdminService"]
BILLING = billing_pb2.DESCRIPTOR.services_by_name["BillingService"]
USAGE = usage_pb2.DESCRIPTOR.services_by_name["UsageService"]
ADMIT = admission_pb2.DESCRIPTOR.services_by_name["AdmissionService"].methods_by_name["Admit"]
TENANTS = tenants_pb2.DESCRIPTOR.services_by_name["TenantService"]
SERVED = (ADMIN, BILLING, TENANTS)
SERVICES = (ADMIN, BILLING, USAGE, TENANTS)  # the last deletes a tenant
