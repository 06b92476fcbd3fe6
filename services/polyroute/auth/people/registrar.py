"""How somebody comes in: a person, what they get, and its line in the log of changes, in one transaction."""

from dataclasses import dataclass, field, replace
from typing import Final, Literal

from sqlalchemy import Connection, insert

from polyroute.api.auth.v1 import people_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import keys, schema
from polyroute.auth.admin import journal
from polyroute.auth.admin.directory import open_account
from polyroute.auth.admin.journal import Change
from polyroute.auth.admin.tenants import Account, AccountKind, Billing
from polyroute.auth.keys import Digester, Key, NewKey
from polyroute.auth.messages import key as key_message
from polyroute.auth.money.entries import Book, Entry, post
from polyroute.auth.money.entries import Kind as EntryKind
from polyroute.auth.money.ledger import Ledger
from polyroute.auth.people import messages
from polyroute.auth.people.known import NewPerson, Person
from polyroute.auth.people.members import Members, check_account, join, use_invitation
from polyroute.auth.people.registry import add_person, identified
from polyroute.auth.people.roles import Role
from polyroute.auth.store import key_row
from polyroute.mesh.errors import MeshError

DEFAULT: Final = "default"  # name of the first project and the first key of an account

Policy = Literal["closed", "invited", "open"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """Somebody who has come in; for one who was invited into an account, what is their own is empty."""

    person: Person
    account_id: str
    project_id: str = ""
    key: Key | None = None
    secret: str = field(default="", repr=False)
    trial: int = 0
    created: bool = True
    """They were not here before."""


class Registrar:
    """Lets people in.

    Args:
        ledger: Where the trial quota is paid in; its transactions are the ones used here.
        members: Knows the codes of invitations.
        digester: Turns the secrets of keys into what is kept of them.
        policy: Who may register.
        trial: What a new account of somebody's own may spend, nano-USD; it pays in advance.
    """

    def __init__(self, ledger: Ledger, members: Members, digester: Digester, *, policy: Policy, trial: int) -> None:
        self._ledger = ledger
        self._members = members
        self._digester = digester
        self._policy = policy
        self._trial = trial

    def check(self, invitation: str) -> None:
        """Refuses whoever may not register, before anything costs time.

        Raises:
            MeshError: REASON_NOT_PERMITTED.
        """
        if self._policy == "closed":
            raise _not_permitted("nobody may register here by themselves")
        if self._policy == "invited" and not invitation:
            raise _not_permitted("registering here takes an invitation")

    async def register(self, new: NewPerson, invitation: str = "") -> Arrival:
        """Somebody who registers, with an account of their own or in the one they are invited into.

        Raises:
            MeshError: REASON_NOT_PERMITTED, as `check`, or the invitation is not good for them; REASON_EXISTS, the
                address is taken.
        """
        self.check(invitation)

        def work(connection: Connection, now: int) -> Arrival:
            if not invitation:
                return self._arrived(connection, new, "", Role.OWNER, now)
            used = use_invitation(connection, self._members.digest(invitation), new.email, now)
            # an operator who invites knows the address; the people of an account may write any into an invitation
            verified = not used.account_id
            return self._arrived(connection, replace(new, verified=verified), used.account_id, used.role, now)

        return await self._ledger.transact(work)

    async def create(self, actor: str, email: str, name: str, account_id: str, role: Role) -> Arrival:
        """Somebody whom an operator lets in, without a password; an empty account means one of their own.

        Raises:
            MeshError: REASON_EXISTS, the address is taken; REASON_NOT_FOUND, there is no such account.
        """
        new = NewPerson(email, name, verified=True)
        return await self._ledger.transact(
            lambda connection, now: self._arrived(connection, new, account_id, role, now, actor)
        )

    async def admit(self, new: NewPerson, account_id: str, role: Role) -> Arrival:
        """Somebody whom an identity provider vouches for; an empty account means one of their own.

        Raises:
            MeshError: REASON_EXISTS, the address is taken; REASON_NOT_FOUND, there is no such account.
        """

        def work(connection: Connection, now: int) -> Arrival:
            known = identified(connection, new.identity) if new.identity is not None else None
            if known is not None:  # they came twice at once, and the other of the two was first
                return Arrival(known, account_id, created=False)
            return self._arrived(connection, new, account_id, role, now)

        return await self._ledger.transact(work)

    def _arrived(
        self, connection: Connection, new: NewPerson, account_id: str, role: Role, now: int, actor: str = ""
    ) -> Arrival:
        person = add_person(connection, new, now)
        if account_id:
            arrival = _enter(connection, person, account_id, role, now)
        else:
            arrival = self._settle_in(connection, person, now)
        _record(connection, actor or _own(person), arrival, now)
        return arrival

    def _settle_in(self, connection: Connection, person: Person, now: int) -> Arrival:
        """An account of their own, with a project, a key and the trial quota."""
        account = Account(keys.new_id("acc"), person.name, Billing.PREPAID, now, AccountKind.PERSON)
        if self._trial:
            books = (Book.PAID, Book.AVAILABLE)
            note = "trial quota"
            paid = Entry(
                EntryKind.CREDIT, f"trial:{account.id}", 0, 0, *books, self._trial, account.id, "", "", now, note=note
            )
            post(connection, [paid])
        open_account(connection, account)
        join(connection, account.id, person.id, Role.OWNER, now)
        project = {"id": keys.new_id("prj"), "account_id": account.id, "name": DEFAULT, "created": now}
        connection.execute(insert(schema.projects).values(project))
        key, secret = self._key(connection, account.id, str(project["id"]), now)
        return Arrival(person, account.id, str(project["id"]), key, secret, self._trial)

    def _key(self, connection: Connection, account_id: str, project_id: str, now: int) -> tuple[Key, str]:
        secret = keys.new_secret()
        prefix = keys.prefix(secret)
        new = NewKey(keys.new_id("key"), self._digester(secret), prefix, DEFAULT, (), now)
        connection.execute(insert(schema.keys).values(key_row(new, project_id)))
        return Key(new.id, account_id, project_id, prefix, DEFAULT, (), now), secret


def _enter(connection: Connection, person: Person, account_id: str, role: Role, now: int) -> Arrival:
    """A place in an account that is there already.

    Raises:
        MeshError: REASON_NOT_FOUND, there is no such account.
    """
    check_account(connection, account_id)
    join(connection, account_id, person.id, role, now)
    return Arrival(person, account_id)


def _record(connection: Connection, actor: str, arrival: Arrival, now: int) -> None:
    """Writes down who came in, with all that they got but its secret."""
    key = arrival.key
    after = pb.RegisterResponse(
        person=messages.person(arrival.person),
        account_id=arrival.account_id,
        project_id=arrival.project_id,
        key=None if key is None else key_message(key),
        trial_nanos=arrival.trial,
    )
    action = "Register" if actor == _own(arrival.person) else "CreatePerson"
    journal.record(connection, Change(actor, action, arrival.account_id, None, after), now)


def _own(person: Person) -> str:
    """A person as the log of changes names them."""
    return f"person:{person.id}"


def _not_permitted(message: str) -> MeshError:
    return MeshError(errors_pb2.REASON_NOT_PERMITTED, message)
