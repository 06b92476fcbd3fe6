"""What each method of administration takes, and whose things it is about: one line a method.

A method that is not here is refused at the start of the process, not at its first call.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from polyroute.auth.people.roles import Permission


class Kind(StrEnum):
    """What a field names; the value is how errors call it."""

    ACCOUNT = "account"
    PROJECT = "project"
    KEY = "key"
    SCOPE = "key, project or account"
    BUDGET = "budget"
    INVITATION = "invitation"


@dataclass(frozen=True, slots=True)
class Target:
    """A field of a request that names something of a tenant.

    Attributes:
        field: Where it is, such as `key.project_id`.
        kind: What it names.
        needed: An empty one is refused to everybody but operators.
    """

    field: str
    kind: Kind
    needed: bool = True

    def of(self, request: Any) -> str:
        """What the request names."""
        for part in self.field.split("."):
            request = getattr(request, part)
        return str(request)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a method takes.

    Attributes:
        permission: In the account, or the project, of every target.
        targets: Whose things the request is about; none where it lists what the caller may see.
        whole: Taken instead where a target is an account as a whole: what binds a tenant is not his to lift.
        fields: Fields of an update's mask that are the operator's.
    """

    permission: Permission
    targets: tuple[Target, ...] = ()
    whole: Permission | None = None
    fields: frozenset[str] = frozenset()


_P = Permission
_ACCOUNT: Final = (Target("account_id", Kind.ACCOUNT),)
_KEY: Final = (Target("key", Kind.KEY),)
_NEW_KEY: Final = (Target("key.project_id", Kind.PROJECT), Target("key.creator_key", Kind.KEY, needed=False))
_BUDGET: Final = (Target("budget.scope", Kind.SCOPE, needed=False), Target("budget.id", Kind.BUDGET, needed=False))
_OPERATOR: Final = Rule(_P.OPERATE)

_ADMIN: Final[Mapping[str, Rule]] = {
    "CreateAccount": _OPERATOR,
    "GetAccount": Rule(_P.ACCOUNT_READ, _ACCOUNT),
    "ListAccounts": Rule(_P.ACCOUNT_READ),
    "UpdateAccount": Rule(_P.ACCOUNT_WRITE, (Target("account.id", Kind.ACCOUNT),), fields=frozenset({"billing_mode"})),
    "CreateProject": Rule(_P.PROJECTS_WRITE, _ACCOUNT),
    "GetProject": Rule(_P.PROJECTS_READ, (Target("project_id", Kind.PROJECT),)),
    "ListProjects": Rule(_P.PROJECTS_READ),
    "UpdateProject": Rule(_P.PROJECTS_WRITE, (Target("project.id", Kind.PROJECT),)),
    "IssueKey": Rule(_P.KEYS_WRITE, _NEW_KEY),
    "GetKey": Rule(_P.KEYS_READ, _KEY),
    "SearchKeys": Rule(_P.KEYS_READ),
    "UpdateKey": Rule(_P.KEYS_WRITE, (Target("key.id", Kind.KEY),)),
    "RotateKey": Rule(_P.KEYS_WRITE, _KEY),
    "EndKey": Rule(_P.KEYS_WRITE, _KEY),
    "SetLimit": Rule(_P.LIMITS_WRITE, (Target("limit.scope", Kind.SCOPE),), whole=_P.OPERATE),
    "ListLimits": Rule(_P.LIMITS_READ),
    "DeleteLimit": Rule(_P.LIMITS_WRITE, (Target("limit.scope", Kind.SCOPE),), whole=_P.OPERATE),
    "SetBudget": Rule(_P.BUDGETS_WRITE, _BUDGET, whole=_P.OPERATE),
    "ListBudgets": Rule(_P.BUDGETS_READ),
    "DeleteBudget": Rule(_P.BUDGETS_WRITE, (Target("budget_id", Kind.BUDGET),), whole=_P.OPERATE),
    "PostCredit": _OPERATOR,
    "PostCorrection": _OPERATOR,
    "ListEntries": Rule(_P.LEDGER_READ),
    "AuditLedger": _OPERATOR,
    "ListAuditEvents": Rule(_P.AUDIT_READ),
    "CreateMember": _OPERATOR,
    "ListMembers": Rule(_P.MEMBERS_READ, _ACCOUNT),
    "UpdateMember": Rule(_P.MEMBERS_WRITE, (Target("member.account_id", Kind.ACCOUNT),)),
    "DeleteMember": Rule(_P.MEMBERS_WRITE, _ACCOUNT),
    "CreateInvitation": Rule(_P.MEMBERS_WRITE, _ACCOUNT),
    "ListInvitations": Rule(_P.MEMBERS_WRITE, (Target("account_id", Kind.ACCOUNT, needed=False),)),
    "DeleteInvitation": Rule(_P.MEMBERS_WRITE, (Target("invitation_id", Kind.INVITATION),)),
    "ListPeople": _OPERATOR,
    "CreatePerson": _OPERATOR,
    "UpdatePerson": _OPERATOR,
    "CreatePasswordReset": _OPERATOR,
    "ImportKeys": _OPERATOR,
    "PutVendorKey": _OPERATOR,
    "ListVendorKeys": _OPERATOR,
    "DeleteVendorKey": _OPERATOR,
    "VerifyAuditLog": _OPERATOR,
}

_BILLING: Final[Mapping[str, Rule]] = {
    "GetStatement": Rule(_P.BILLING_READ, _ACCOUNT),
    "IssueInvoice": _OPERATOR,
    "GetInvoice": Rule(_P.BILLING_READ),
    "ListInvoices": Rule(_P.BILLING_READ, (Target("account_id", Kind.ACCOUNT, needed=False),)),
    "CreateCodes": _OPERATOR,
    "ListCodes": _OPERATOR,
    "RedeemCode": Rule(_P.BILLING_WRITE, _ACCOUNT),
    "SetPlan": _OPERATOR,
    "ListPlans": Rule(_P.BILLING_READ),
    "CreateSubscription": _OPERATOR,
    "ListSubscriptions": Rule(_P.BILLING_READ, (Target("account_id", Kind.ACCOUNT, needed=False),)),
    "CancelSubscription": _OPERATOR,
    "SetMultiplier": _OPERATOR,
    "ListMultipliers": _OPERATOR,
    "SetAccountGroup": _OPERATOR,
    "CreateAlert": Rule(_P.BILLING_WRITE, (Target("alert.scope", Kind.SCOPE),)),
    "ListAlerts": Rule(_P.BILLING_READ),
    "DeleteAlert": Rule(_P.BILLING_WRITE),
    "ListDeliveries": Rule(_P.BILLING_READ),
}

_TENANTS: Final[Mapping[str, Rule]] = {
    f"{verb}{kind}": _OPERATOR for verb in ("Suspend", "Resume", "Delete") for kind in ("Account", "Project")
}

# Where neither is named, it is about the one place where somebody may; see people/elsewhere.py.
_PLACE: Final = (
    Target("account_id", Kind.ACCOUNT, needed=False),
    Target("project_id", Kind.PROJECT, needed=False),
)
_USAGE: Final[Mapping[str, Rule]] = {
    "QueryUsage": Rule(_P.USAGE_READ, _PLACE),
    "ListCalls": Rule(_P.USAGE_READ, _PLACE),
    "GetCall": Rule(_P.USAGE_READ, _PLACE),
    "ListLiveModels": Rule(_P.USAGE_READ),
}

# Full name of a service -> its methods. Only services that are served beyond the mesh are here; the last one by the
# edge, which asks here.
RULES: Final[Mapping[str, Mapping[str, Rule]]] = {
    "polyroute.api.auth.v1.AdminService": _ADMIN,
    "polyroute.api.auth.v1.BillingService": _BILLING,
    "polyroute.api.auth.v1.TenantService": _TENANTS,
    "polyroute.api.gateway.v1.UsageService": _USAGE,
}

# Full name of a method of the mesh -> what it takes of somebody who has said who they are. Its role asks here.
NAMED: Final[Mapping[str, Rule]] = {"polyroute.api.router.v1.RouterService.ApplyCatalog": _OPERATOR}


def rule_of(service: str, method: str) -> Rule:
    """What a method takes.

    Raises:
        LookupError: Nobody has said what it takes.
    """
    try:
        return RULES[service][method]
    except KeyError:
        raise LookupError(f"{service}.{method} declares no permission: add it to auth/people/rules.py") from None
