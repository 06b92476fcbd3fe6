"""Who is in an account, and who is invited into it."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import Connection, Select, delete, func, insert, select, update
from sqlalchemy.engine import RowMapping

from polyroute.api.auth.v1 import auth_pb2
from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import keys, schema
from polyroute.auth.admin import journal
from polyroute.auth.admin.filters import Choice, Fields, Moment, Text
from polyroute.auth.admin.journal import Change
from polyroute.auth.admin.paging import Page, token
from polyroute.auth.admin.states import is_there
from polyroute.auth.database import Database
from polyroute.auth.keys import Digester
from polyroute.auth.people import messages
from polyroute.auth.people.actors import Admission
from polyroute.auth.people.known import Invitation, Member
from polyroute.auth.people.reach import within
from polyroute.auth.people.registry import person_of, plain, well_formed
from polyroute.auth.people.roles import Role
from polyroute.mesh.errors import MeshError

MARK: Final = "pi-"
LIFETIME_SECONDS: Final = 7 * 86_400.0
MAX_LIFETIME_SECONDS: Final = 90 * 86_400.0

_M: Final = schema.memberships.c
_R: Final = schema.project_roles.c
_I: Final = schema.invitations.c
_PEOPLE: Final = schema.people.c

INVITATION_FIELDS: Final[Fields] = {
    "id": Text(_I.id),
    "account_id": Text(_I.account_id),
    "role": Choice.of(_I.role, auth_pb2.MemberRole),
    "email": Text(_I.email),
    "create_time": Moment(_I.created),
    "expire_time": Moment(_I.expires),
    "use_time": Moment(_I.used),
}


class Members:
    """Members and invitations.

    Args:
        database: Where they are.
        digester: Turns codes into what is kept of them.
        now: Wall clock, seconds since the Unix epoch.
    """

    def __init__(self, database: Database, digester: Digester, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._digester = digester
        self._now = now

    async def page(self, account_id: str, page: Page) -> tuple[list[Member], str]:
        """A page of the members of an account, by their ids."""
        query = _select().where(_M.account_id == account_id).order_by(_M.person_id).limit(page.size + 1)
        if page.after:
            query = query.where(_M.person_id > str(page.after[0]))

        def work(connection: Connection) -> tuple[list[Member], bool]:
            rows = connection.execute(query).mappings().all()
            return [_member(connection, row) for row in rows[: page.size]], len(rows) > page.size

        found, more = await self._database.read(work)
        return found, token(found[-1].person_id) if more else ""

    async def of(self, person_id: str) -> list[Member]:
        """What a person is in which account."""
        query = _select().where(_M.person_id == person_id).order_by(_M.account_id)
        return await self._database.read(
            lambda connection: [_member(connection, row) for row in connection.execute(query).mappings().all()]
        )

    async def add(self, by: Admission, account_id: str, person_id: str, role: Role) -> Member:
        """Makes a person a member; one who is a member already gets the role.

        Raises:
            MeshError: REASON_NOT_FOUND, the account or the person.
        """
        now = self._micros()

        def work(connection: Connection) -> Member:
            check_account(connection, account_id)
            person_of(connection, person_id)
            join(connection, account_id, person_id, role, now)
            return self._recorded(connection, by.actor.name, "CreateMember", None, account_id, person_id)

        return await self._database.write(work)

    async def change(
        self, by: Admission, account_id: str, person_id: str, role: Role | None, projects: Mapping[str, Role]
    ) -> Member:
        """Changes what a member may do; a role of None stays.

        Raises:
            MeshError: REASON_NOT_FOUND, the member or one of the projects; REASON_NOT_PERMITTED, it is the last owner,
                or what either role allows is not all the caller's to give.
        """

        def work(connection: Connection) -> Member:
            before = _one(connection, account_id, person_id)
            if by.actor.id == person_id:
                raise _not_permitted("somebody else changes what you may do")
            wanted = role or before.role
            _check_gives(by, account_id, before.role, wanted)
            if wanted != Role.OWNER:
                _check_owner_left(connection, before)
            _check_projects(connection, account_id, projects)
            which = update(schema.memberships).where(_M.account_id == account_id, _M.person_id == person_id)
            connection.execute(which.values(role=wanted))
            _forget_projects(connection, account_id, person_id)
            rows = [{"person_id": person_id, "project_id": name, "role": one} for name, one in projects.items()]
            if rows:
                connection.execute(insert(schema.project_roles), rows)
            return self._recorded(connection, by.actor.name, "UpdateMember", before, account_id, person_id)

        return await self._database.write(work)

    async def remove(self, by: Admission, account_id: str, person_id: str) -> None:
        """Takes a person out of an account, if they are in it.

        Raises:
            MeshError: REASON_NOT_PERMITTED, it is the last owner, or somebody who may do more than the caller.
        """

        def work(connection: Connection) -> None:
            before = find(connection, account_id, person_id)
            if before is None:
                return
            _check_gives(by, account_id, before.role)
            _check_owner_left(connection, before)
            leave(connection, account_id, person_id)
            change = Change(by.actor.name, "DeleteMember", account_id, messages.member(before), None)
            journal.record(connection, change, self._micros())

        await self._database.write(work)

    async def invite(
        self, by: Admission, account_id: str, role: Role, email: str, lifetime: float | None
    ) -> tuple[Invitation, str]:
        """An invitation and its code; an empty account means one of their own.

        Raises:
            MeshError: REASON_INVALID_REQUEST, the lifetime; REASON_NOT_PERMITTED, the role is not the caller's to give.
        """
        seconds = LIFETIME_SECONDS if lifetime is None else lifetime
        if not 0 < seconds <= MAX_LIFETIME_SECONDS:
            raise MeshError(
                errors_pb2.REASON_INVALID_REQUEST,
                "an invitation is good for at most ninety days",
                metadata={"param": "lifetime"},
            )
        if not well_formed(plain(email)):
            raise MeshError(errors_pb2.REASON_INVALID_REQUEST, "the address is none", metadata={"param": "email"})
        code, now = MARK + secrets.token_urlsafe(32), self._micros()
        invitation = Invitation(keys.new_id("inv"), account_id, role, plain(email), now, now + round(seconds * 1e6))

        def work(connection: Connection) -> None:
            if account_id:
                check_account(connection, account_id)
                _check_gives(by, account_id, role)
            connection.execute(insert(schema.invitations).values(asdict(invitation) | {"digest": self.digest(code)}))
            after = messages.invitation(invitation)
            change = Change(by.actor.name, "CreateInvitation", account_id or invitation.id, None, after)
            journal.record(connection, change, now)

        await self._database.write(work)
        return invitation, code

    async def invitations(self, account_id: str, page: Page) -> tuple[list[Invitation], str]:
        """A page of invitations, newest first."""
        query = select(schema.invitations).where(*page.wanted, *within(schema.invitations, page.reach))
        query = query.order_by(_I.id.desc()).limit(page.size + 1)
        if account_id:
            query = query.where(_I.account_id == account_id)
        if page.after:
            query = query.where(_I.id < str(page.after[0]))
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        found = [_invitation(row) for row in rows[: page.size]]
        return found, token(found[-1].id) if len(rows) > page.size else ""

    async def withdraw(self, by: Admission, invitation_id: str) -> None:
        """Withdraws an invitation, if there is one."""

        def work(connection: Connection) -> None:
            which = select(schema.invitations).where(_I.id == invitation_id)
            row = connection.execute(which).mappings().one_or_none()
            if row is None:
                return
            connection.execute(delete(schema.invitations).where(_I.id == invitation_id))
            before = messages.invitation(_invitation(row))
            change = Change(by.actor.name, "DeleteInvitation", row["account_id"] or invitation_id, before, None)
            journal.record(connection, change, self._micros())

        await self._database.write(work)

    async def accept(self, person_id: str, code: str) -> Member:
        """Makes somebody who was invited a member.

        Raises:
            MeshError: REASON_NOT_PERMITTED: the code is not good, not for them, or for an account of their own.
        """
        now = self._micros()

        def work(connection: Connection) -> Member:
            person = person_of(connection, person_id)
            invitation = use_invitation(connection, self.digest(code), person.email, now)
            if not invitation.account_id:
                raise _not_permitted("the invitation is for somebody who is new here")
            before = find(connection, invitation.account_id, person_id)
            if before is None:  # who is a member already keeps the role: a code must not lower it
                join(connection, invitation.account_id, person_id, invitation.role, now)
            actor = f"person:{person_id}"
            return self._recorded(connection, actor, "AcceptInvitation", before, invitation.account_id, person_id)

        return await self._database.write(work)

    def digest(self, code: str) -> bytes:
        """What is kept of an invitation's code."""
        return self._digester(f"invitation:{code}")

    def _recorded(
        self, connection: Connection, actor: str, action: str, before: Member | None, account_id: str, person_id: str
    ) -> Member:
        after = _one(connection, account_id, person_id)
        was = messages.member(before) if before else None
        change = Change(actor, action, account_id, was, messages.member(after))
        journal.record(connection, change, self._micros())
        return after

    def _micros(self) -> int:
        return round(self._now() * 1e6)


def join(connection: Connection, account_id: str, person_id: str, role: Role, now: int) -> None:
    """Makes a person a member, or gives a member that role."""
    which = (_M.account_id == account_id, _M.person_id == person_id)
    if connection.execute(update(schema.memberships).where(*which).values(role=role)).rowcount:
        return
    row = {"account_id": account_id, "person_id": person_id, "role": role, "created": now}
    connection.execute(insert(schema.memberships).values(row))


def leave(connection: Connection, account_id: str, person_id: str) -> None:
    """Takes a person out of an account and its projects."""
    _forget_projects(connection, account_id, person_id)
    connection.execute(delete(schema.memberships).where(_M.account_id == account_id, _M.person_id == person_id))


def use_invitation(connection: Connection, digest: bytes, email: str, now: int) -> Invitation:
    """The invitation of a code, used now and never again.

    Raises:
        MeshError: REASON_NOT_PERMITTED, in the same words whatever is wrong with it.
    """
    good = (_I.digest == digest, _I.email == plain(email), _I.used.is_(None), _I.expires > now)
    if not connection.execute(update(schema.invitations).where(*good).values(used=now)).rowcount:
        raise _not_permitted("the invitation is not valid")
    return _invitation(connection.execute(select(schema.invitations).where(_I.digest == digest)).mappings().one())


def check_account(connection: Connection, account_id: str) -> None:
    """Refuses an account that is not there.

    Raises:
        MeshError: REASON_NOT_FOUND.
    """
    if not is_there(connection, account_id):
        raise MeshError(errors_pb2.REASON_NOT_FOUND, "there is no such account", metadata={"resource": account_id})


def _check_gives(by: Admission, account_id: str, *roles: Role) -> None:
    """Nobody gives, changes or takes away more than they have."""
    if not all(by.actor.gives(role, account_id) for role in roles):
        raise _not_permitted("nobody gives or takes a role that allows more than their own")


def _check_owner_left(connection: Connection, member: Member) -> None:
    if member.role != Role.OWNER:
        return
    owners = select(func.count()).where(_M.account_id == member.account_id, _M.role == Role.OWNER)
    if connection.scalar(owners) == 1:
        raise _not_permitted("an account keeps an owner")


def _check_projects(connection: Connection, account_id: str, projects: Mapping[str, Role]) -> None:
    table = schema.projects.c
    found = set(connection.scalars(select(table.id).where(table.account_id == account_id, table.id.in_(projects))))
    missing = sorted(set(projects) - found)
    if missing:
        raise MeshError(errors_pb2.REASON_NOT_FOUND, "there is no such project", metadata={"resource": missing[0]})


def _forget_projects(connection: Connection, account_id: str, person_id: str) -> None:
    theirs = select(schema.projects.c.id).where(schema.projects.c.account_id == account_id)
    connection.execute(delete(schema.project_roles).where(_R.person_id == person_id, _R.project_id.in_(theirs)))


def _select() -> Select[Any]:
    return select(schema.memberships, _PEOPLE.email, _PEOPLE.name).join_from(schema.memberships, schema.people)


def find(connection: Connection, account_id: str, person_id: str) -> Member | None:
    """The member, if there is one."""
    which = _select().where(_M.account_id == account_id, _M.person_id == person_id)
    row = connection.execute(which).mappings().one_or_none()
    return None if row is None else _member(connection, row)


def _one(connection: Connection, account_id: str, person_id: str) -> Member:
    found = find(connection, account_id, person_id)
    if found is None:
        raise MeshError(errors_pb2.REASON_NOT_FOUND, "there is no such member", metadata={"resource": person_id})
    return found


def _member(connection: Connection, row: RowMapping) -> Member:
    theirs = select(_R.project_id, _R.role).join_from(schema.project_roles, schema.projects)
    theirs = theirs.where(_R.person_id == row["person_id"], schema.projects.c.account_id == row["account_id"])
    found: Sequence[Any] = connection.execute(theirs.order_by(_R.project_id)).all()
    return Member(
        row["account_id"],
        row["person_id"],
        Role(row["role"]),
        row["created"],
        {project_id: Role(role) for project_id, role in found},
        row["email"] or "",
        row["name"],
    )


def _invitation(row: RowMapping) -> Invitation:
    times = (row["created"], row["expires"], row["used"])
    return Invitation(row["id"], row["account_id"], Role(row["role"]), row["email"], *times)


def _not_permitted(message: str) -> MeshError:
    return MeshError(errors_pb2.REASON_NOT_PERMITTED, message)
