"""Who is at a call of administration, and how far they reach; decided once and kept for the time of the call."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import Final

from polyroute.auth.people.roles import GRANTS, Permission, Role
from polyroute.auth.scopes import Grant


class How(StrEnum):
    """How somebody showed who they are."""

    SECRET = "admin"  # noqa: S105 - a word
    TOKEN = "person"  # noqa: S105 - a word
    KEY = "key"
    CERTIFICATE = "service"
    MESH = "mesh"


@dataclass(frozen=True, slots=True)
class Standing:
    """What somebody is in one account.

    Attributes:
        role: In the account.
        projects: Project -> the role that narrows it there.
        only: The one project that it is about; empty means the whole account.
    """

    role: Role
    projects: Mapping[str, Role] = field(default_factory=dict)
    only: str = ""

    def has(self, permission: Permission, project_id: str = "") -> bool:
        """Whether it allows something in a project, or in the account as a whole."""
        if self.only and project_id != self.only:
            return False
        narrower = self.projects.get(project_id)
        return permission in GRANTS[self.role] and (narrower is None or permission in GRANTS[narrower])

    def permissions(self, project_id: str = "") -> frozenset[Permission]:
        """All that it allows there."""
        return frozenset(permission for permission in Permission if self.has(permission, project_id))


@dataclass(frozen=True, slots=True)
class Reach:
    """Whose things a list may show.

    Attributes:
        accounts: All of these accounts' things, but for those in `hidden`.
        projects: These projects' things.
        hidden: Projects of those accounts that are left out.
    """

    accounts: frozenset[str] = frozenset()
    projects: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Actor:
    """Who calls.

    Attributes:
        how: How they showed it.
        id: Which person, key or certificate; empty for the admin secret.
        operator: May do everything, everywhere.
        standings: Account -> what they are in it.
        grant: Of a key: what it may do itself, which bounds what it may give.
    """

    how: How
    id: str = ""
    operator: bool = False
    standings: Mapping[str, Standing] = field(default_factory=dict)
    grant: Grant | None = None

    @property
    def name(self) -> str:
        """As the log of changes names them: `admin`, `person:per_...`, `key:key_...`, `service:...`."""
        return f"{self.how}:{self.id}"[:64] if self.id else str(self.how)

    def may(self, permission: Permission, account_id: str, project_id: str = "") -> bool:
        """Whether they may do something in a project, or in an account as a whole."""
        if self.operator:
            return True
        standing = self.standings.get(account_id)
        return standing is not None and standing.has(permission, project_id)

    def sees(self, account_id: str, project_id: str = "") -> bool:
        """Whether they are told that something of theirs is there at all."""
        standing = self.standings.get(account_id)
        return self.operator or (standing is not None and project_id in {standing.only or project_id, ""})

    def gives(self, role: Role, account_id: str, project_id: str = "") -> bool:
        """Whether all that a role may do there is theirs to give."""
        if self.operator:
            return True
        standing = self.standings.get(account_id)
        if standing is None:
            return False
        # a role in a whole account is one in those of its projects, too, where the giver may do less
        places = (project_id,) if project_id else ("", *standing.projects)
        return all(GRANTS[role] <= standing.permissions(place) for place in places)

    def reach(self, permission: Permission) -> Reach | None:
        """Whose things they may list; None means everybody's."""
        if self.operator:
            return None
        allowed = {name: one for name, one in self.standings.items() if permission in GRANTS[one.role]}
        hidden = {
            project_id
            for one in allowed.values()
            for project_id, role in one.projects.items()
            if permission not in GRANTS[role]
        }
        return Reach(
            frozenset(account_id for account_id, one in allowed.items() if not one.only),
            frozenset(one.only for one in allowed.values() if one.only),
            frozenset(hidden),
        )

    def own(self, request_id: str) -> str:
        """A name that the caller gave to a creation, kept apart from everybody else's; empty stays empty."""
        if self.operator or not request_id:
            return request_id
        return blake2b(f"{self.name}\0{request_id}".encode(), digest_size=32).hexdigest()


OPERATOR: Final = Actor(How.SECRET, operator=True)


@dataclass(frozen=True, slots=True)
class Admission:
    """What was decided about the call at hand.

    Attributes:
        actor: Who calls.
        reach: Whose things a list may show; None means everybody's.
        account_id: The account that it is about; empty when there is none.
        project_id: The project that it is about; empty when there is none.
    """

    actor: Actor
    reach: Reach | None = None
    account_id: str = ""
    project_id: str = ""


_CURRENT: Final[ContextVar[Admission]] = ContextVar("admission")


def admitted() -> Admission:
    """What was decided about the call at hand.

    Raises:
        LookupError: Nothing was: the method was reached past the doorman.
    """
    return _CURRENT.get()


@contextmanager
def acting(admission: Admission) -> Generator[None]:
    """The time of one call."""
    token = _CURRENT.set(admission)
    try:
        yield
    finally:
        _CURRENT.reset(token)
