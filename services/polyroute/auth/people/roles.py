"""What a role may do: one table, read by everything that decides."""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Final


class Role(IntEnum):
    """What somebody is in an account; the values are the contract's `MemberRole`."""

    OWNER = 1
    ADMIN = 2
    MEMBER = 3
    VIEWER = 4
    BILLING = 5


class Permission(StrEnum):
    """What a method of administration takes. `OPERATE` is in no role: it is the operator's alone."""

    OPERATE = "operate"
    ACCOUNT_READ = "account.read"
    ACCOUNT_WRITE = "account.write"
    MEMBERS_READ = "members.read"
    MEMBERS_WRITE = "members.write"
    OWNERS_WRITE = "owners.write"
    PROJECTS_READ = "projects.read"
    PROJECTS_WRITE = "projects.write"
    KEYS_READ = "keys.read"
    KEYS_WRITE = "keys.write"
    LIMITS_READ = "limits.read"
    LIMITS_WRITE = "limits.write"
    BUDGETS_READ = "budgets.read"
    BUDGETS_WRITE = "budgets.write"
    USAGE_READ = "usage.read"
    LEDGER_READ = "ledger.read"
    BILLING_READ = "billing.read"
    BILLING_WRITE = "billing.write"
    AUDIT_READ = "audit.read"


_P = Permission
_VIEWER: Final = frozenset(
    {
        _P.ACCOUNT_READ,
        _P.MEMBERS_READ,
        _P.PROJECTS_READ,
        _P.KEYS_READ,
        _P.LIMITS_READ,
        _P.BUDGETS_READ,
        _P.USAGE_READ,  # in every role: sums of an account hold nothing that a project would hide
    }
)
_MEMBER: Final = _VIEWER | {_P.KEYS_WRITE}
_BILLING: Final = frozenset(
    {
        _P.ACCOUNT_READ,
        _P.MEMBERS_READ,
        _P.PROJECTS_READ,
        _P.LIMITS_READ,
        _P.BUDGETS_READ,
        _P.BUDGETS_WRITE,
        _P.USAGE_READ,
        _P.LEDGER_READ,
        _P.BILLING_READ,
        _P.BILLING_WRITE,
    }
)
_ADMIN: Final = _MEMBER | {
    _P.ACCOUNT_WRITE,
    _P.MEMBERS_WRITE,
    _P.PROJECTS_WRITE,
    _P.LIMITS_WRITE,
    _P.BUDGETS_WRITE,
    _P.LEDGER_READ,
    _P.BILLING_READ,
    _P.AUDIT_READ,
}

GRANTS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.OWNER: _ADMIN | _BILLING | {_P.OWNERS_WRITE},
    Role.ADMIN: _ADMIN,
    Role.MEMBER: _MEMBER,
    Role.VIEWER: _VIEWER,
    Role.BILLING: _BILLING,
}
