"""`polyroute people`, `members` and `invitations`; and what somebody does for themselves: signing in and out."""

import sys
from collections.abc import Callable
from getpass import getpass
from typing import Any, Final

from polyroute.api.auth.v1 import auth_pb2
from polyroute.api.auth.v1 import people_pb2 as pb
from polyroute.cli import sessions
from polyroute.cli.admin import DAY, when
from polyroute.cli.desk import Desk
from polyroute.cli.printing import Column, show_line, show_list, show_one
from polyroute.cli.sessions import Session
from polyroute.mesh.roles import ConfigError

_PREFIX: Final = "MEMBER_ROLE_"
ROLES: Final = {name.removeprefix(_PREFIX).lower(): value for name, value in auth_pb2.MemberRole.items() if value}
_NAMES: Final = {value: name for name, value in ROLES.items()}

PERSON: Final[tuple[Column, ...]] = (
    ("id", lambda person: person.id),
    ("e-mail", lambda person: person.email),
    ("name", lambda person: person.name),
    ("state", lambda person: "disabled" if person.disabled else "may sign in"),
    ("password", lambda person: "yes" if person.has_password else "no"),
    ("since", lambda person: when(person.create_time)),
)
MEMBER: Final[tuple[Column, ...]] = (
    ("person", lambda member: member.person_id),
    ("e-mail", lambda member: member.email),
    ("name", lambda member: member.name),
    ("role", lambda member: _NAMES.get(member.role, "")),
    ("in projects", lambda member: _narrower(member) or "the same"),
    ("since", lambda member: when(member.create_time)),
)
INVITATION: Final[tuple[Column, ...]] = (
    ("id", lambda one: one.id),
    ("for", lambda one: one.email),
    ("account", lambda one: one.account_id or "one of their own"),
    ("role", lambda one: _NAMES.get(one.role, "")),
    ("state", lambda one: f"used {when(one.use_time)}" if one.HasField("use_time") else "open"),
    ("until", lambda one: when(one.expire_time)),
)


def _narrower(member: Any) -> str:
    return ", ".join(f"{one.project_id}={_NAMES.get(one.role, '')}" for one in member.project_roles)


def list_people(desk: Desk, email: str) -> None:
    """Prints people, newest first."""
    found = desk.pages("ListPeople", pb.ListPeopleRequest(filter=_by_email(email) if email else ""))
    show_list(found, PERSON, "there are no such people", as_json=desk.as_json)


def create_person(desk: Desk, email: str, name: str, account: str, role: str) -> None:
    """Creates a person; the code by which they set a password goes to standard output."""
    request = pb.CreatePersonRequest(email=email, name=name, account_id=account, role=_role(role))
    made = desk.ask("CreatePerson", request)
    print(f"{made.person.id} in {made.account_id}; their code, until {when(made.expire_time)}:", file=sys.stderr)
    show_line(made, made.code, as_json=desk.as_json)


def set_disabled(desk: Desk, person: str, *, disabled: bool) -> None:
    """Keeps a person out, or lets them in again."""
    wanted = pb.Person(id=_person(desk, person), disabled=disabled)
    show_one(desk.ask("UpdatePerson", pb.UpdatePersonRequest(person=wanted)).person, PERSON, as_json=desk.as_json)


def offer_reset(desk: Desk, person: str) -> None:
    """Makes a code that sets a password; it goes to standard output."""
    made = desk.ask("CreatePasswordReset", pb.CreatePasswordResetRequest(person_id=_person(desk, person)))
    print(f"works once, until {when(made.expire_time)}:", file=sys.stderr)
    show_line(made, made.code, as_json=desk.as_json)


def list_members(desk: Desk, account: str) -> None:
    """Prints the members of an account."""
    found = desk.pages("ListMembers", pb.ListMembersRequest(account_id=account))
    show_list(found, MEMBER, "nobody is in it", as_json=desk.as_json)


def add_member(desk: Desk, account: str, person: str, role: str) -> None:
    """Makes a person a member."""
    request = pb.CreateMemberRequest(account_id=account, person_id=_person(desk, person), role=_role(role))
    show_one(desk.ask("CreateMember", request).member, MEMBER, as_json=desk.as_json)


def change_member(desk: Desk, account: str, person: str, role: str, projects: list[str]) -> None:
    """Changes what a member may do; where they may do less stays as it is in the projects that are not named.

    Raises:
        ConfigError: There is no such member or role, or nothing is to be changed.
    """
    if not role and not projects:
        raise ConfigError("say what is to change: a role, or --project")
    member = _member(desk, account, person)
    narrower = {one.project_id: one.role for one in member.project_roles}
    for text in projects:
        project, _, name = text.partition("=")
        narrower.pop(project, None)
        if name:
            narrower[project] = _role(name)
    wanted = pb.Member(account_id=account, person_id=member.person_id, role=_role(role) if role else member.role)
    wanted.project_roles.extend(pb.ProjectRole(project_id=name, role=one) for name, one in narrower.items())
    show_one(desk.ask("UpdateMember", pb.UpdateMemberRequest(member=wanted)).member, MEMBER, as_json=desk.as_json)


def remove_member(desk: Desk, account: str, person: str) -> None:
    """Takes a person out of an account."""
    member = _member(desk, account, person)
    desk.ask("DeleteMember", pb.DeleteMemberRequest(account_id=account, person_id=member.person_id))
    print(f"{member.person_id} is not in {account} any more")


def list_invitations(desk: Desk, account: str) -> None:
    """Prints invitations, newest first."""
    found = desk.pages("ListInvitations", pb.ListInvitationsRequest(account_id=account))
    show_list(found, INVITATION, "there are no invitations", as_json=desk.as_json)


def invite(desk: Desk, email: str, account: str, role: str, days: int) -> None:
    """Invites somebody; the code goes to standard output."""
    request = pb.CreateInvitationRequest(email=email, account_id=account, role=_role(role))
    request.lifetime.FromSeconds(days * DAY)
    made = desk.ask("CreateInvitation", request)
    print(f"{made.invitation.id}, until {when(made.invitation.expire_time)}, shown this once:", file=sys.stderr)
    show_line(made, made.code, as_json=desk.as_json)


def withdraw(desk: Desk, invitation: str) -> None:
    """Withdraws an invitation."""
    desk.ask("DeleteInvitation", pb.DeleteInvitationRequest(invitation_id=invitation))
    print(f"{invitation}: withdrawn")


def register(desk: Desk, email: str, name: str, invitation: str) -> None:
    """Registers and signs in; the secret of a key of one's own goes to standard output."""
    request = pb.RegisterRequest(email=email, password=_secret("password"), name=name, invitation=invitation)
    done = desk.ask_openly("Register", request)
    sessions.keep(desk.gateway, Session.of(done.tokens))
    print(f"signed in as {done.person.email} ({done.person.id}), in {done.account_id}", file=sys.stderr)
    if done.secret:
        print(f"a key for calls, shown this once, in {done.project_id}:", file=sys.stderr)
        print(done.secret)


def sign_in(desk: Desk, email: str, provider: str) -> None:
    """Signs in, by a password or by an identity provider.

    Raises:
        ConfigError: Neither or both are named.
    """
    if bool(email) == bool(provider):
        raise ConfigError("say who you are: an e-mail address, or --provider")
    if provider:
        print(f"open {desk.door}/admin/v1/oidc/{provider}/begin\nand give its refresh_token here", file=sys.stderr)
        token = _secret("refresh_token").strip('"')
        answer = desk.ask_openly("RefreshTokens", pb.RefreshTokensRequest(refresh_token=token))
    else:
        answer = desk.ask_openly("SignIn", pb.SignInRequest(email=email, password=_secret("password")))
    sessions.keep(desk.gateway, Session.of(answer.tokens))
    who_am_i(desk)


def sign_out(desk: Desk) -> None:
    """Ends the session, here and at the gateway."""
    session = sessions.forget(desk.gateway)
    if session is None:
        print("nobody is signed in", file=sys.stderr)
        return
    desk.ask_openly("SignOut", pb.SignOutRequest(refresh_token=session.refresh))
    print("signed out")


def who_am_i(desk: Desk) -> None:
    """Prints who is signed in, and what they are where."""
    answer = desk.ask("GetSelf", pb.GetSelfRequest())
    if desk.as_json:
        show_line(answer, "", as_json=True)
        return
    print(f"{answer.person.email or answer.person.name} ({answer.person.id})")
    for member in answer.memberships:
        narrower = _narrower(member)
        print(f"{_NAMES.get(member.role, '')} of {member.account_id}" + (f", but {narrower}" if narrower else ""))


def set_password(desk: Desk, *, by_code: bool) -> None:
    """Sets a password: by a code, or by the one until now."""
    if by_code:
        code = _secret("code")
        desk.ask_openly("ResetPassword", pb.ResetPasswordRequest(code=code, new_password=_secret("new password")))
    else:
        before = _secret("password")
        desk.ask("ChangePassword", pb.ChangePasswordRequest(password=before, new_password=_secret("new password")))
    print("the password is set; every other session has ended")


def join(desk: Desk, code: str) -> None:
    """Joins the account of an invitation."""
    member = desk.ask("AcceptInvitation", pb.AcceptInvitationRequest(code=code)).member
    show_line(member, f"{_NAMES.get(member.role, '')} of {member.account_id}", as_json=desk.as_json)


def _secret(what: str) -> str:
    """What is typed unseen, or the next line of standard input: it is in no history and no list of processes."""
    ask: Callable[[], str] = (lambda: getpass(f"{what}: ")) if sys.stdin.isatty() else sys.stdin.readline
    given = ask().rstrip("\r\n")
    if not given:
        raise SystemExit(f"polyroute: no {what} on standard input")
    return given


def _role(name: str) -> auth_pb2.MemberRole.ValueType:
    if name not in ROLES:
        raise ConfigError(f"{name!r} is no role ({', '.join(ROLES)})")
    return ROLES[name]


def _person(desk: Desk, person: str) -> str:
    """The id of a person who may be named by their address."""
    if "@" not in person:
        return person
    found = list(desk.pages("ListPeople", pb.ListPeopleRequest(filter=_by_email(person))))
    if not found:
        raise SystemExit(f"polyroute: nobody signs in as {person}")
    return str(found[0].id)


def _member(desk: Desk, account: str, person: str) -> Any:
    for member in desk.pages("ListMembers", pb.ListMembersRequest(account_id=account)):
        if person in (member.person_id, member.email):
            return member
    raise SystemExit(f"polyroute: {person} is not in {account}")


def _by_email(email: str) -> str:
    if '"' in email or "\\" in email:
        raise ConfigError(f"{email!r} is no address")
    return f'email = "{email.lower()}"'
