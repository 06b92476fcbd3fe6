"""People as they are kept: who they are, by what they are known, and what they are in which account."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, Select, delete, insert, select, update
from sqlalchemy.engine import RowMapping

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import keys, schema
from polyroute.auth.admin import journal
from polyroute.auth.admin.filters import Fields, Flag, Moment, Text
from polyroute.auth.admin.journal import Change
from polyroute.auth.admin.paging import Page, token
from polyroute.auth.database import Database
from polyroute.auth.people import messages
from polyroute.auth.people.actors import Standing
from polyroute.auth.people.known import Identity, NewPerson, Person
from polyroute.auth.people.roles import Role
from polyroute.mesh.errors import MeshError

MAX_EMAIL: Final = 254  # bytes (RFC 5321, 4.5.3.1.3)

_P: Final = schema.people.c
_I: Final = schema.identities.c
_M: Final = schema.memberships.c
_R: Final = schema.project_roles.c
_S: Final = schema.sessions.c

FIELDS: Final[Fields] = {
    "id": Text(_P.id),
    "email": Text(_P.email),
    "name": Text(_P.name),
    "disabled": Flag(_P.disabled),
    "verified": Flag(_P.verified),
    "create_time": Moment(_P.created),
}


class People:
    """Finds and changes people.

    Args:
        database: Where they are.
        now: Wall clock, seconds since the Unix epoch.
    """

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    async def by_email(self, email: str) -> Person | None:
        """The person who signs in by an address."""
        return await self._one(_select().where(_P.email == plain(email)))

    async def by_identity(self, identity: Identity) -> Person | None:
        """The person an identity provider knows by that name."""
        return await self._database.read(lambda connection: identified(connection, identity))

    async def get(self, person_id: str) -> Person:
        """The person of that id.

        Raises:
            MeshError: REASON_NOT_FOUND.
        """
        return await self._database.read(lambda connection: person_of(connection, person_id))

    async def page(self, page: Page) -> tuple[list[Person], str]:
        """A page of people, newest first, and the token that asks for the next; empty on the last."""
        query = _select().where(*page.wanted)
        query = query.order_by(_P.id.desc()).limit(page.size + 1)
        if page.after:
            query = query.where(_P.id < str(page.after[0]))
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        found = [_person(row) for row in rows[: page.size]]
        return found, token(found[-1].id) if len(rows) > page.size else ""

    async def standings(self, person_id: str, session_id: str) -> Mapping[str, Standing] | None:
        """What a person is in each account; None when they are shut out, or the session has ended."""
        now = self._micros()

        def work(connection: Connection) -> Mapping[str, Standing] | None:
            lives = (_S.id == session_id, _S.person_id == person_id, _S.ended.is_(None), _S.expires > now)
            query = select(_P.id).join_from(schema.sessions, schema.people).where(*lives, _P.disabled.is_(False))
            if connection.scalar(query) is None:
                return None
            return standings_of(connection, person_id)

        return await self._database.read(work)

    async def keep_password(self, person_id: str, password: str) -> None:
        """Keeps the same password hashed anew: nothing that anybody would notice."""
        which = update(schema.people).where(_P.id == person_id)
        await self._database.write(lambda connection: connection.execute(which.values(password=password)))

    async def set_password(self, person_id: str, password: str, *, but: str = "") -> None:
        """Changes a password, as it is kept, and ends every session but one."""
        now = self._micros()

        def work(connection: Connection) -> None:
            change_password(connection, person_id, password, now, but=but)
            journal.record(connection, Change(f"person:{person_id}", "ChangePassword", person_id, {}, {}), now)

        await self._database.write(work)

    async def set_disabled(self, actor: str, person_id: str, *, disabled: bool) -> Person:
        """Shuts a person out, which ends their sessions, or lets them in again."""
        now = self._micros()

        def work(connection: Connection) -> Person:
            before = person_of(connection, person_id)
            connection.execute(update(schema.people).where(_P.id == person_id).values(disabled=disabled))
            if disabled:
                end_sessions(connection, person_id, now)
            after = person_of(connection, person_id)
            journal.record(
                connection,
                Change(actor, "UpdatePerson", person_id, messages.person(before), messages.person(after)),
                now,
            )
            return after

        return await self._database.write(work)

    async def link(self, person_id: str, identity: Identity) -> None:
        """Has an identity provider's name stand for a person from now on."""
        now = self._micros()
        row = {"issuer": identity.issuer, "subject": identity.subject, "person_id": person_id}

        def work(connection: Connection) -> None:
            connection.execute(insert(schema.identities).values(row))
            journal.record(connection, Change(f"person:{person_id}", "LinkIdentity", person_id, {}, row), now)

        await self._database.write(work)

    async def _one(self, query: Select[Any]) -> Person | None:
        row = await self._database.read(lambda connection: connection.execute(query).mappings().one_or_none())
        return None if row is None else _person(row)

    def _micros(self) -> int:
        return round(self._now() * 1e6)


def plain(email: str) -> str:
    """An address as it is compared."""
    return email.strip().lower()


def well_formed(email: str) -> bool:
    """Whether an address can be one: nothing in it moves a terminal's cursor, or is cut off where it is kept."""
    return len(email.encode("utf-8", "surrogatepass")) <= MAX_EMAIL and email.isprintable() and "@" in email


def identified(connection: Connection, identity: Identity) -> Person | None:
    """The person whom an identity provider knows by that name."""
    query = _select().join(schema.identities, _I.person_id == _P.id)
    query = query.where(_I.issuer == identity.issuer, _I.subject == identity.subject)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _person(row)


def person_of(connection: Connection, person_id: str) -> Person:
    """The person of that id.

    Raises:
        MeshError: REASON_NOT_FOUND.
    """
    row = connection.execute(_select().where(_P.id == person_id)).mappings().one_or_none()
    if row is None:
        raise MeshError(errors_pb2.REASON_NOT_FOUND, "there is no such person", metadata={"resource": person_id})
    return _person(row)


def standings_of(connection: Connection, person_id: str) -> Mapping[str, Standing]:
    """What a person is in each account."""
    projects = schema.projects.c
    narrower: dict[str, dict[str, Role]] = {}
    query = select(projects.account_id, _R.project_id, _R.role).join_from(schema.project_roles, schema.projects)
    for account_id, project_id, role in connection.execute(query.where(_R.person_id == person_id)):
        narrower.setdefault(account_id, {})[project_id] = Role(role)
    found = connection.execute(select(_M.account_id, _M.role).where(_M.person_id == person_id))
    return {account_id: Standing(Role(role), narrower.get(account_id, {})) for account_id, role in found}


def add_person(connection: Connection, new: NewPerson, now: int) -> Person:
    """A new person, whom nobody has let in anywhere yet.

    Raises:
        MeshError: REASON_INVALID_REQUEST, the address is none; REASON_EXISTS, somebody has it.
    """
    email = plain(new.email) or None
    if email and not well_formed(email):
        raise MeshError(errors_pb2.REASON_INVALID_REQUEST, "the address is none", metadata={"param": "email"})
    if email and connection.scalar(select(_P.id).where(_P.email == email)) is not None:
        raise MeshError(errors_pb2.REASON_EXISTS, "the address is taken", metadata={"param": "email"})
    row = {
        "id": keys.new_id("per"),
        "email": email,
        "name": "".join(filter(str.isprintable, new.name or new.email))[:128],
        "password": new.password,
        "verified": new.verified,
        "disabled": False,
        "created": now,
    }
    connection.execute(insert(schema.people).values(row))
    if new.identity is not None:
        link = {"issuer": new.identity.issuer, "subject": new.identity.subject, "person_id": row["id"]}
        connection.execute(insert(schema.identities).values(link))
    return person_of(connection, str(row["id"]))


def change_password(connection: Connection, person_id: str, password: str, now: int, *, but: str = "") -> None:
    """Changes a password, as it is kept; codes that would set one, and every session but one, end."""
    connection.execute(update(schema.people).where(_P.id == person_id).values(password=password))
    resets = schema.password_resets
    connection.execute(delete(resets).where(resets.c.person_id == person_id))
    end_sessions(connection, person_id, now, but=but)


def end_sessions(connection: Connection, person_id: str, now: int, *, but: str = "") -> None:
    """Ends every session of a person but one."""
    which = (_S.person_id == person_id, _S.ended.is_(None), _S.id != but)
    connection.execute(update(schema.sessions).where(*which).values(ended=now))


def _select() -> Select[Any]:
    return select(schema.people)


def _person(row: RowMapping) -> Person:
    return Person(
        row["id"],
        row["email"] or "",
        row["name"],
        row["disabled"],
        row["created"],
        verified=row["verified"],
        password=row["password"],
    )
