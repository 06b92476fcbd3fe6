"""Tenants as they are known: accounts and their projects."""

from dataclasses import dataclass
from enum import IntEnum


class Billing(IntEnum):
    """How an account pays; the values are the contract's."""

    POSTPAID = 1
    PREPAID = 2


class AccountKind(IntEnum):
    """Whose an account is; the values are the contract's."""

    PERSON = 1
    TEAM = 2


class State(IntEnum):
    """Whether calls may be made in an account or a project; the values are the contract's."""

    ACTIVE = 1
    SUSPENDED = 2
    DELETED = 3


@dataclass(frozen=True, slots=True)
class Account:
    """A person or a team; `created` in microseconds since the Unix epoch."""

    id: str
    name: str
    billing: Billing
    created: int
    kind: AccountKind = AccountKind.TEAM
    state: State = State.ACTIVE


@dataclass(frozen=True, slots=True)
class Project:
    """A unit of billing and attribution; `created` in microseconds since the Unix epoch."""

    id: str
    account_id: str
    name: str
    created: int
    state: State = State.ACTIVE
