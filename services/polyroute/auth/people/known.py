"""People and what belongs to them as they are known: plain values, times in microseconds since the Unix epoch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from polyroute.auth.money.periods import Period
from polyroute.auth.people.roles import Role
from polyroute.auth.rates.limits import Kind
from polyroute.auth.scopes import Scope


@dataclass(frozen=True, slots=True)
class Person:
    """A person; `created` in microseconds since the Unix epoch."""

    id: str
    email: str
    name: str
    disabled: bool
    created: int
    verified: bool = False
    """The address is theirs: somebody who knows them, or an identity provider, says so."""
    password: str | None = field(default=None, repr=False)
    """As it is kept, never as it was typed."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is at an identity provider: the only thing by which a provider's people are known again."""

    issuer: str
    subject: str


@dataclass(frozen=True, slots=True)
class NewPerson:
    """A person about to be created."""

    email: str
    name: str
    password: str | None = field(default=None, repr=False)
    verified: bool = False
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A person in an account; `created` in microseconds since the Unix epoch."""

    account_id: str
    person_id: str
    role: Role
    created: int
    projects: Mapping[str, Role] = field(default_factory=dict)
    email: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Invitation:
    """A code with which somebody may come in; times in microseconds since the Unix epoch."""

    id: str
    account_id: str
    role: Role
    email: str
    created: int
    expires: int
    used: int | None = None


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A key that is to be taken over.

    Attributes:
        sha256: Digest of the whole key, 64 lower-case hexadecimal digits.
        name: For people.
        project_id: Its project; empty means the default project.
        models: What it may use; empty means all.
        expires: Microseconds since the Unix epoch; None means never.
        scope: What else binds it.
        limits: Kind -> amount.
        budget: What it may spend in `period`, nano-USD; None means no budget.
        period: For how long the budget is.
    """

    sha256: str
    name: str = ""
    project_id: str = ""
    models: tuple[str, ...] = ()
    expires: int | None = None
    scope: Scope = field(default_factory=Scope)
    limits: tuple[tuple[Kind, int], ...] = ()
    budget: int | None = None
    period: Period = Period.TOTAL


@dataclass(frozen=True, slots=True)
class VendorKey:
    """A vendor's key, sealed; `created` in microseconds since the Unix epoch."""

    provider: str
    name: str
    sealing_key_id: str
    created: int
    sealed: bytes = field(default=b"", repr=False)
