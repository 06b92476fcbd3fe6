"""AdminService: messages into what administrators do, and its outcome into messages.

Who calls and whether they may has been decided before a method is reached; see `people/admission.py`.
"""

from collections.abc import Mapping
from typing import Any, Final

import grpc

from polyroute.api.auth.v1 import admin_pb2 as pb
from polyroute.api.auth.v1 import admin_pb2_grpc, auth_pb2, limits_pb2
from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import messages
from polyroute.auth.admin import fields
from polyroute.auth.admin.directory import Directory
from polyroute.auth.admin.etags import all_tagged, tagged
from polyroute.auth.admin.filters import Fields
from polyroute.auth.admin.journal import FIELDS as EVENT_FIELDS
from polyroute.auth.admin.journal import Journal
from polyroute.auth.admin.keydesk import KeyDesk
from polyroute.auth.admin.paging import Page
from polyroute.auth.admin.people import PeopleMethods, Staff
from polyroute.auth.admin.tenants import Billing
from polyroute.auth.admin.treasurer import Treasurer
from polyroute.auth.money.statement import FIELDS as ENTRY_FIELDS
from polyroute.auth.people.actors import admitted
from polyroute.mesh.errors import MeshError

Context = grpc.aio.ServicerContext[Any, Any]

ACCOUNT_MASK: Final = frozenset({"name", "billing_mode"})
PROJECT_MASK: Final = frozenset({"name"})
PART: Final = "scope."  # what begins the path of a part of a key's scope
KEY_MASK: Final = frozenset({"name", "models", "scope", "expire_time"}) | frozenset(
    PART + name for name in auth_pb2.KeyScope.DESCRIPTOR.fields_by_name
)
BUDGET_MASK: Final[Mapping[str, str]] = {  # fields of the contract -> what they are here
    "period": "period",
    "time_zone": "time_zone",
    "amount_nanos": "amount",
    "hard": "hard",
}
ALL: Final = "*"


class AdminService(PeopleMethods, admin_pb2_grpc.AdminServiceServicer):
    """Administration, over the contract.

    Args:
        things: Accounts, projects, limits, budgets.
        keys: Keys.
        money: The ledger.
        journal: What was changed.
        staff: Does what is about people.
    """

    def __init__(self, things: Directory, keys: KeyDesk, money: Treasurer, journal: Journal, staff: Staff) -> None:
        super().__init__(staff)
        self._things = things
        self._keys = keys
        self._money = money
        self._journal = journal

    async def CreateAccount(self, request: pb.CreateAccountRequest, context: Context) -> pb.CreateAccountResponse:  # noqa: N802
        """Creates an account."""
        billing = Billing(request.billing_mode or Billing.POSTPAID)
        made = await self._things.create_account(_actor(), request.name, billing)
        return pb.CreateAccountResponse(account=tagged(messages.account(made)))

    async def GetAccount(self, request: pb.GetAccountRequest, context: Context) -> pb.GetAccountResponse:  # noqa: N802
        """Shows an account."""
        return pb.GetAccountResponse(account=tagged(messages.account(await self._things.account(request.account_id))))

    async def ListAccounts(self, request: pb.ListAccountsRequest, context: Context) -> pb.ListAccountsResponse:  # noqa: N802
        """Lists accounts."""
        found, token = await self._things.accounts(_page(request, fields.ACCOUNTS), show_deleted=request.show_deleted)
        return pb.ListAccountsResponse(accounts=all_tagged(map(messages.account, found)), next_page_token=token)

    async def UpdateAccount(self, request: pb.UpdateAccountRequest, context: Context) -> pb.UpdateAccountResponse:  # noqa: N802
        """Changes an account."""
        changes = _fields(request, request.account, ACCOUNT_MASK)
        changed = await self._things.update_account(
            _actor(),
            request.account.id,
            request.account.name if "name" in changes else None,
            Billing(request.account.billing_mode or Billing.POSTPAID) if "billing_mode" in changes else None,
            request.account.etag,
        )
        return pb.UpdateAccountResponse(account=tagged(messages.account(changed)))

    async def CreateProject(self, request: pb.CreateProjectRequest, context: Context) -> pb.CreateProjectResponse:  # noqa: N802
        """Creates a project."""
        made = await self._things.create_project(_actor(), request.account_id, request.name)
        return pb.CreateProjectResponse(project=tagged(messages.project(made)))

    async def GetProject(self, request: pb.GetProjectRequest, context: Context) -> pb.GetProjectResponse:  # noqa: N802
        """Shows a project."""
        return pb.GetProjectResponse(project=tagged(messages.project(await self._things.project(request.project_id))))

    async def ListProjects(self, request: pb.ListProjectsRequest, context: Context) -> pb.ListProjectsResponse:  # noqa: N802
        """Lists projects."""
        found, token = await self._things.projects(_page(request, fields.PROJECTS), show_deleted=request.show_deleted)
        return pb.ListProjectsResponse(projects=all_tagged(map(messages.project, found)), next_page_token=token)

    async def UpdateProject(self, request: pb.UpdateProjectRequest, context: Context) -> pb.UpdateProjectResponse:  # noqa: N802
        """Changes a project."""
        changes = _fields(request, request.project, PROJECT_MASK)
        name = request.project.name if "name" in changes else None
        changed = await self._things.update_project(_actor(), request.project.id, name, request.project.etag)
        return pb.UpdateProjectResponse(project=tagged(messages.project(changed)))

    async def IssueKey(self, request: pb.IssueKeyRequest, context: Context) -> pb.IssueKeyResponse:  # noqa: N802
        """Creates a key."""
        wanted = request.key
        made, secret = await self._keys.issue(
            admitted(),
            project_id=wanted.project_id,
            name=wanted.name,
            models=tuple(wanted.models),
            lifetime=messages.seconds(wanted.lifetime) if wanted.HasField("lifetime") else None,
            request_id=wanted.request_id,
            scope=messages.to_scope(wanted.scope),
            creator=wanted.creator_key,
        )
        return pb.IssueKeyResponse(key=tagged(messages.key(made)), secret=secret)

    async def GetKey(self, request: pb.GetKeyRequest, context: Context) -> pb.GetKeyResponse:  # noqa: N802
        """Shows a key."""
        return pb.GetKeyResponse(key=tagged(messages.key(await self._keys.get(request.key))))

    async def SearchKeys(self, request: pb.SearchKeysRequest, context: Context) -> pb.SearchKeysResponse:  # noqa: N802
        """Lists keys."""
        page = _page(request, fields.KEYS, own_token=True)
        found, token = await self._keys.search(page, request.page_token, show_ended=request.show_ended)
        return pb.SearchKeysResponse(keys=all_tagged(map(messages.key, found)), next_page_token=token)

    async def UpdateKey(self, request: pb.UpdateKeyRequest, context: Context) -> pb.UpdateKeyResponse:  # noqa: N802
        """Changes what a key may do."""
        by, wanted = admitted(), request.key
        changes = _fields(request, wanted, KEY_MASK)
        values: dict[str, Any] = {}
        if "name" in changes:
            values["name"] = wanted.name
        if "models" in changes:
            values["models"] = tuple(wanted.models)
        parts = (
            {path.partition(".")[2] for path in changes if path.startswith(PART)} if "scope" not in changes else set()
        )
        if "scope" in changes or parts:
            values["scope"] = messages.to_scope(wanted.scope)
        if "expire_time" in changes:
            values["expires"] = messages.micros(wanted, "expire_time")
        done = await self._keys.update(by, wanted.id, etag=wanted.etag, parts=parts, **values)
        return pb.UpdateKeyResponse(key=tagged(messages.key(done)))

    async def RotateKey(self, request: pb.RotateKeyRequest, context: Context) -> pb.RotateKeyResponse:  # noqa: N802
        """Gives a key a new secret."""
        overlap = messages.seconds(request.overlap) if request.HasField("overlap") else None
        key, secret = await self._keys.rotate(admitted(), request.key, overlap)
        return pb.RotateKeyResponse(key=tagged(messages.key(key)), secret=secret)

    async def EndKey(self, request: pb.EndKeyRequest, context: Context) -> pb.EndKeyResponse:  # noqa: N802
        """Revokes a key."""
        return pb.EndKeyResponse(key=tagged(messages.key(await self._keys.end(admitted(), request.key, request.etag))))

    async def SetLimit(self, request: pb.SetLimitRequest, context: Context) -> pb.SetLimitResponse:  # noqa: N802
        """Sets a limit."""
        actor = _actor()
        _check_kind(request.limit)
        done = await self._things.set_limit(actor, messages.to_limit(request.limit), request.limit.etag)
        return pb.SetLimitResponse(limit=tagged(messages.limit(done)))

    async def ListLimits(self, request: pb.ListLimitsRequest, context: Context) -> pb.ListLimitsResponse:  # noqa: N802
        """Lists limits."""
        found, token = await self._things.limits(_page(request, fields.LIMITS))
        return pb.ListLimitsResponse(limits=all_tagged(map(messages.limit, found)), next_page_token=token)

    async def DeleteLimit(self, request: pb.DeleteLimitRequest, context: Context) -> pb.DeleteLimitResponse:  # noqa: N802
        """Lifts a limit."""
        actor = _actor()
        _check_kind(request.limit)
        await self._things.delete_limit(actor, messages.to_limit(request.limit).place, request.limit.etag)
        return pb.DeleteLimitResponse()

    async def SetBudget(self, request: pb.SetBudgetRequest, context: Context) -> pb.SetBudgetResponse:  # noqa: N802
        """Sets a budget."""
        actor = _actor()
        changes = _budget_fields(request)
        _check_budget(request.budget, changes)
        members = [BUDGET_MASK[name] for name in changes]
        done = await self._things.set_budget(actor, messages.to_budget(request.budget), members, request.budget.etag)
        return pb.SetBudgetResponse(budget=tagged(messages.budget(done)))

    async def ListBudgets(self, request: pb.ListBudgetsRequest, context: Context) -> pb.ListBudgetsResponse:  # noqa: N802
        """Lists budgets."""
        found, token = await self._things.budgets(_page(request, fields.BUDGETS))
        return pb.ListBudgetsResponse(budgets=all_tagged(map(messages.budget, found)), next_page_token=token)

    async def DeleteBudget(self, request: pb.DeleteBudgetRequest, context: Context) -> pb.DeleteBudgetResponse:  # noqa: N802
        """Lifts a budget."""
        await self._things.delete_budget(_actor(), request.budget_id, request.etag)
        return pb.DeleteBudgetResponse()

    async def PostCredit(self, request: pb.PostCreditRequest, context: Context) -> pb.PostCreditResponse:  # noqa: N802
        """Pays money into an account."""
        row = await self._money.credit(
            _actor(), request.account_id, request.amount_nanos, request.request_id, request.note
        )
        return pb.PostCreditResponse(entry=messages.entry(row))

    async def PostCorrection(self, request: pb.PostCorrectionRequest, context: Context) -> pb.PostCorrectionResponse:  # noqa: N802
        """Changes what an attempt was charged."""
        row = await self._money.correct(
            _actor(),
            request.request_id,
            request.attempt,
            request.cost_nanos,
            revision=request.revision,
            note=request.note,
        )
        return pb.PostCorrectionResponse(entry=messages.entry(row))

    async def ListEntries(self, request: pb.ListEntriesRequest, context: Context) -> pb.ListEntriesResponse:  # noqa: N802
        """Lists entries of the ledger."""
        found, token = await self._money.entries(_page(request, ENTRY_FIELDS))
        return pb.ListEntriesResponse(entries=map(messages.entry, found), next_page_token=token)

    async def AuditLedger(self, request: pb.AuditLedgerRequest, context: Context) -> pb.AuditLedgerResponse:  # noqa: N802
        """Adds the whole ledger up."""
        found = await self._money.audit()
        return pb.AuditLedgerResponse(
            findings=found.findings, entries=found.entries, held_nanos=found.held, spent_nanos=found.spent
        )

    async def ListAuditEvents(  # noqa: N802
        self, request: pb.ListAuditEventsRequest, context: Context
    ) -> pb.ListAuditEventsResponse:
        """Lists what administrators changed."""
        found, token = await self._journal.page(_page(request, EVENT_FIELDS))
        return pb.ListAuditEventsResponse(events=map(messages.event, found), next_page_token=token)


def _actor() -> str:
    return admitted().actor.name


def _page(request: Any, fields: Fields, *, own_token: bool = False) -> Page:
    token, order = "" if own_token else request.page_token, getattr(request, "order_by", "")  # limits have but one
    return Page.of(request.page_size, token, request.filter, fields, admitted().reach, order)


def _fields(request: Any, resource: Any, known: frozenset[str]) -> frozenset[str]:
    """The fields that an update changes: those of its mask, or all that are set when it has none."""
    if not request.update_mask.paths:
        return frozenset(field.name for field, _ in resource.ListFields()) & known
    return _masked(request, known)


def _budget_fields(request: pb.SetBudgetRequest) -> frozenset[str]:
    """The fields that a budget gets: a new one all; one that is there those of the mask, or all that can be told."""
    known = frozenset(BUDGET_MASK)
    if request.budget.id and request.update_mask.paths:
        return _masked(request, known)
    return known if request.budget.HasField("hard") or not request.budget.id else known - {"hard"}


def _masked(request: Any, known: frozenset[str]) -> frozenset[str]:
    paths = frozenset(request.update_mask.paths)
    if ALL in paths:
        return frozenset(path for path in known if "." not in path)
    if not paths <= known:
        what = f"cannot change {', '.join(sorted(paths - known))}: known are {', '.join(sorted(known))} and {ALL}"
        raise _invalid("update_mask", what)
    return paths


def _check_kind(limit: limits_pb2.Limit) -> None:
    if not limit.kind:
        raise _invalid("limit.kind", "a limit counts something")


def _check_budget(budget: limits_pb2.Budget, fields: frozenset[str]) -> None:
    if "period" in fields and not budget.period:
        raise _invalid("budget.period", "a budget is for a period")
    if budget.amount_nanos < 0:
        raise _invalid("budget.amount_nanos", "an amount is not below nothing")
    if budget.prepaid:
        raise _invalid("budget.prepaid", "the balance of an account comes of its billing mode")


def _invalid(param: str, message: str) -> MeshError:
    return MeshError(errors_pb2.REASON_INVALID_REQUEST, message, metadata={"param": param})
