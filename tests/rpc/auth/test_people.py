"""PeopleService as people meet it, and what administrators do about people."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from polyroute.api.auth.v1 import admin_pb2, auth_pb2
from polyroute.api.auth.v1 import people_pb2 as pb
from polyroute.api.auth.v1.admin_pb2 import Account
from polyroute.api.auth.v1.auth_pb2 import (
    MEMBER_ROLE_ADMIN,
    MEMBER_ROLE_BILLING,
    MEMBER_ROLE_MEMBER,
    MEMBER_ROLE_OWNER,
    MEMBER_ROLE_VIEWER,
    SPEND_CLASS_INCLUDED,
    CreateKeyRequest,
    KeyScope,
)
from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from polyroute.api.auth.v1.limits_pb2 import LIMIT_KIND_REQUESTS, PERIOD_TOTAL, Budget, Limit
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.errors.v1.errors_pb2 import (
    REASON_BUDGET_EXHAUSTED,
    REASON_CREDENTIAL_INVALID,
    REASON_CREDENTIAL_MISSING,
    REASON_EXISTS,
    REASON_INVALID_REQUEST,
    REASON_NOT_FOUND,
    REASON_NOT_PERMITTED,
    REASON_RATE_LIMITED,
)
from polyroute.auth.config import AuthConfig
from polyroute.auth.wiring import Auth, assembled
from polyroute.mesh.errors import MeshError, from_rpc
from tests.databases import prepare
from tests.rpc.auth.cast import ADMIN, Metadata, bearer, call

pytestmark = pytest.mark.parametrize("kind", ["local"], indirect=True)

PASSWORD = "correct horse battery"
PEOPLE = pb.DESCRIPTOR.services_by_name["PeopleService"]
Ask = Callable[..., Awaitable[Any]]


@pytest.fixture
async def auth(tmp_path: Path) -> AsyncGenerator[Auth]:
    """A role where everybody may register."""
    config = AuthConfig(registration="open", trial_quota="0.50 USD", password_memory=8, password_rounds=1)  # type: ignore[arg-type]
    async with assembled(config, data_dir=prepare(tmp_path / "data")) as role:
        yield role


@pytest.fixture
def ask(channel: Any, admin: Metadata) -> Ask:
    """Asks PeopleService or AdminService: `await ask("SignIn", email=...)`; `by` is what is presented."""

    async def send(method: str, by: Metadata = admin, **fields: Any) -> Any:
        service = PEOPLE if method in PEOPLE.methods_by_name else ADMIN
        descriptor = service.methods_by_name[method]
        modules = [module for module in (pb, admin_pb2) if hasattr(module, descriptor.input_type.name)]
        request = getattr(modules[0], descriptor.input_type.name)(**fields)
        return await call(channel, descriptor, request, by)

    return send


async def refusal(work: Awaitable[Any]) -> MeshError:
    """The error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await work
    return from_rpc(refused.value)


async def reason(work: Awaitable[Any]) -> str:
    """Its reason, in words."""
    return errors_pb2.Reason.Name((await refusal(work)).reason)


async def register(ask: Ask, email: str = "ann@example.com", **fields: Any) -> Any:
    """Somebody new."""
    return await ask("Register", (), email=email, password=PASSWORD, **fields)


async def test_registration_gives_all_that_a_call_needs(ask: Ask, auth_stub: AuthServiceStub) -> None:
    """An account of their own, a default project, a default key, and the trial quota as a prepaid budget."""
    done = await register(ask, name="Ann")
    verdict = (await auth_stub.Authorize(auth_pb2.AuthorizeRequest(credential=done.secret), timeout=5)).verdict
    by = bearer(done.tokens.access_token)
    [balance] = (await ask("ListBudgets", by)).budgets
    account = (await ask("GetAccount", by, account_id=done.account_id)).account
    found = await ask("AuditLedger")

    caller = verdict.caller
    assert (done.account_id, done.project_id, done.key.id) == (caller.account_id, caller.project_id, caller.key_id)
    assert done.account_id == verdict.purse
    assert (500_000_000, 500_000_000, True) == (done.trial_nanos, balance.amount_nanos, balance.prepaid)
    assert (admin_pb2.ACCOUNT_KIND_PERSON, admin_pb2.BILLING_MODE_PREPAID) == (account.kind, account.billing_mode)
    assert ["default"] == [project.name for project in (await ask("ListProjects", by)).projects]
    assert [] == list(found.findings)


async def test_trial_ends(ask: Ask, ledger_stub: Any) -> None:
    """Nobody spends more than it, and nobody lifts it by themselves."""
    from polyroute.api.auth.v1 import ledger_pb2

    done = await register(ask)
    caller = auth_pb2.Caller(account_id=done.account_id, project_id=done.project_id, key_id=done.key.id)
    wanted = ledger_pb2.HoldRequest(request_id="r", caller=caller, amount_nanos=500_000_001)
    refused = await refusal(ledger_stub.Hold(wanted, timeout=5))
    by = bearer(done.tokens.access_token)
    [balance] = (await ask("ListBudgets", by)).budgets
    account = admin_pb2.Account(id=done.account_id, billing_mode=admin_pb2.BILLING_MODE_POSTPAID)
    budget = Budget(scope=done.account_id, period=PERIOD_TOTAL, amount_nanos=10**12)
    attempts = [
        ask("UpdateAccount", by, account=account),
        ask("DeleteBudget", by, budget_id=balance.id),
        ask("SetBudget", by, budget=Budget(id=balance.id, period=PERIOD_TOTAL, amount_nanos=10**12)),
        ask("SetBudget", by, budget=budget),
        ask("PostCredit", by, account_id=done.account_id, amount_nanos=1, request_id="r"),
    ]

    assert REASON_BUDGET_EXHAUSTED == refused.reason
    assert ["REASON_NOT_PERMITTED"] * 5 == [await reason(attempt) for attempt in attempts]


async def test_limit_of_an_account_is_not_its_owners_to_lift(ask: Ask) -> None:
    """That of a project is."""
    done = await register(ask)
    by = bearer(done.tokens.access_token)
    limit = Limit(scope=done.account_id, kind=LIMIT_KIND_REQUESTS, amount=1)
    await ask("SetLimit", limit=limit)
    own = Limit(scope=done.project_id, kind=LIMIT_KIND_REQUESTS, amount=1)

    assert "REASON_NOT_PERMITTED" == await reason(ask("DeleteLimit", by, limit=limit))
    assert own.scope == (await ask("SetLimit", by, limit=own)).limit.scope
    assert [limit.scope, own.scope] == [one.scope for one in (await ask("ListLimits", by)).limits]


async def test_a_star_in_a_mask_means_what_only_operators_change_too(ask: Ask) -> None:
    """It is no way around the fields that are theirs."""
    done = await register(ask)
    by = bearer(done.tokens.access_token)
    account = Account(id=done.account_id, name="mine")

    assert "REASON_NOT_PERMITTED" == await reason(
        ask("UpdateAccount", by, account=account, update_mask={"paths": ["*"]})
    )
    assert "mine" == (await ask("UpdateAccount", by, account=account, update_mask={"paths": ["name"]})).account.name


async def test_people_and_invitations_are_found(ask: Ask) -> None:
    """By filters, in every database."""
    await register(ask)

    people = (
        await ask("ListPeople", filter='disabled = false AND email:"ann@*" AND create_time > 2020-01-01T00:00:00Z')
    ).people
    nobody = (await ask("ListInvitations", filter="role = member AND NOT use_time:*")).invitations

    assert (1, []) == (len(people), list(nobody))


async def test_address_is_taken_once(ask: Ask) -> None:
    """However it is written."""
    await register(ask)

    assert REASON_EXISTS == (await refusal(register(ask, "Ann@Example.com"))).reason


async def test_password_opens_and_nothing_else_does(ask: Ask) -> None:
    """A wrong one, an unknown person and the stored hash are refused in the same words."""
    await register(ask)
    tokens = (await ask("SignIn", (), email="ANN@example.com", password=PASSWORD)).tokens
    wrong = [
        await refusal(ask("SignIn", (), email=email, password=password))
        for email, password in (("ann@example.com", "wrong"), ("bob@example.com", PASSWORD))
    ]
    self = await ask("GetSelf", bearer(tokens.access_token))

    assert ("ann@example.com", True) == (self.person.email, self.person.has_password)
    assert [MEMBER_ROLE_OWNER] == [member.role for member in self.memberships]
    assert 1 == len({(error.reason, error.message) for error in wrong})
    assert REASON_CREDENTIAL_INVALID == wrong[0].reason


async def test_guessing_is_throttled(ask: Ask) -> None:
    """By name and address; the same person from elsewhere still gets in."""
    await register(ask)
    here, elsewhere = (("polyroute-client", "192.0.2.1"),), (("polyroute-client", "192.0.2.2"),)
    reasons = [(await refusal(ask("SignIn", here, email="ann@example.com", password="guess"))).reason for _ in range(6)]
    blocked = await refusal(ask("SignIn", here, email="ann@example.com", password=PASSWORD))

    assert [REASON_CREDENTIAL_INVALID] * 5 + [REASON_RATE_LIMITED] == reasons
    assert (REASON_RATE_LIMITED, True) == (blocked.reason, (blocked.retry_after or 0) > 0)
    assert (await ask("SignIn", elsewhere, email="ann@example.com", password=PASSWORD)).tokens.access_token


async def test_refresh_token_works_once(ask: Ask) -> None:
    """Its second use ends the session: for the thief and for the owner."""
    first = (await register(ask)).tokens
    second = (await ask("RefreshTokens", (), refresh_token=first.refresh_token)).tokens
    works = await ask("GetSelf", bearer(second.access_token))
    again = await reason(ask("RefreshTokens", (), refresh_token=first.refresh_token))
    after = await reason(ask("RefreshTokens", (), refresh_token=second.refresh_token))

    assert works.person.id
    assert ["REASON_CREDENTIAL_INVALID"] * 3 == [
        again,
        after,
        await reason(ask("GetSelf", bearer(second.access_token))),
    ]


async def test_signing_out_ends_the_access_token_too(ask: Ask) -> None:
    """At once; doing it again changes nothing."""
    tokens = (await register(ask)).tokens
    for _ in range(2):
        await ask("SignOut", (), refresh_token=tokens.refresh_token)

    assert "REASON_CREDENTIAL_INVALID" == await reason(ask("ListProjects", bearer(tokens.access_token)))


async def test_new_password_ends_other_sessions(ask: Ask) -> None:
    """The one in which it was changed goes on."""
    here = (await register(ask)).tokens
    there = (await ask("SignIn", (), email="ann@example.com", password=PASSWORD)).tokens
    by, new = bearer(here.access_token), "another horse entirely"
    wrong = await reason(ask("ChangePassword", by, password="no", new_password=new))
    await ask("ChangePassword", by, password=PASSWORD, new_password=new)

    assert "REASON_CREDENTIAL_INVALID" == wrong
    assert (await ask("GetSelf", by)).person.id
    assert "REASON_CREDENTIAL_INVALID" == await reason(ask("GetSelf", bearer(there.access_token)))
    assert "REASON_CREDENTIAL_INVALID" == await reason(ask("SignIn", (), email="ann@example.com", password=PASSWORD))
    assert (await ask("SignIn", (), email="ann@example.com", password=new)).tokens.access_token


async def test_reset_code_works_once(ask: Ask) -> None:
    """It comes from an operator, and ends every session."""
    done = await register(ask)
    by = bearer(done.tokens.access_token)
    denied = await reason(ask("CreatePasswordReset", by, person_id=done.person.id))
    code = (await ask("CreatePasswordReset", person_id=done.person.id)).code
    await ask("ResetPassword", (), code=code, new_password="another horse entirely")

    assert "REASON_NOT_PERMITTED" == denied
    assert "REASON_CREDENTIAL_INVALID" == await reason(ask("GetSelf", by))
    assert "REASON_CREDENTIAL_INVALID" == await reason(ask("ResetPassword", (), code=code, new_password="x" * 12))


async def test_person_who_is_shut_out_is_out_at_once(ask: Ask) -> None:
    """And may come back when let in again, by signing in."""
    done = await register(ask)
    by = bearer(done.tokens.access_token)
    await ask("UpdatePerson", person=pb.Person(id=done.person.id, disabled=True))
    out = await reason(ask("GetSelf", by)), await reason(ask("SignIn", (), email="ann@example.com", password=PASSWORD))
    await ask("UpdatePerson", person=pb.Person(id=done.person.id))

    assert ("REASON_CREDENTIAL_INVALID",) * 2 == out
    assert (await ask("SignIn", (), email="ann@example.com", password=PASSWORD)).tokens.access_token
    found = (await ask("ListPeople", filter='email = "ann@example.com"')).people
    assert [done.person.id] == [one.id for one in found]


async def test_invited_person_is_in_the_team(ask: Ask) -> None:
    """With the role of the invitation; its code works once, and only for the one who was invited."""
    owner = await register(ask)
    by = bearer(owner.tokens.access_token)
    account = owner.account_id
    made = await ask("CreateInvitation", by, account_id=account, role=MEMBER_ROLE_VIEWER, email="bob@example.com")
    stolen = await reason(register(ask, "eve@example.com", invitation=made.code))
    bob = await register(ask, "bob@example.com", invitation=made.code)
    again = await reason(register(ask, "bob2@example.com", invitation=made.code))
    members = (await ask("ListMembers", bearer(bob.tokens.access_token), account_id=account)).members

    assert ("REASON_NOT_PERMITTED",) * 2 == (stolen, again)
    assert (account, "", "") == (bob.account_id, bob.project_id, bob.secret)
    assert {"ann@example.com": MEMBER_ROLE_OWNER, "bob@example.com": MEMBER_ROLE_VIEWER} == {
        member.email: member.role for member in members
    }
    assert (await ask("ListInvitations", by)).invitations[0].HasField("use_time")


async def test_person_of_two_accounts(ask: Ask) -> None:
    """Somebody who is here already accepts with the code; lists show both, and what is made must say where."""
    owner, bob = await register(ask), await register(ask, "bob@example.com")
    invited = await ask(
        "CreateInvitation", bearer(owner.tokens.access_token), account_id=owner.account_id, email="bob@example.com"
    )
    by = bearer(bob.tokens.access_token)
    member = (await ask("AcceptInvitation", by, code=invited.code)).member
    ambiguous = await refusal(ask("IssueKey", by, key=CreateKeyRequest(name="ci")))
    issued = await ask("IssueKey", by, key=CreateKeyRequest(name="ci", project_id=owner.project_id))

    assert (owner.account_id, MEMBER_ROLE_MEMBER) == (member.account_id, member.role)
    assert 2 == len((await ask("ListProjects", by)).projects)
    assert (REASON_INVALID_REQUEST, "key.project_id") == (ambiguous.reason, ambiguous.metadata["param"])
    assert owner.project_id == issued.key.project_id


async def test_nobody_gives_more_than_they_have(ask: Ask) -> None:
    """Neither a role nor a key that administers; an admin makes no owners, and leaves owners alone."""
    owner = await register(ask)
    account, top = owner.account_id, bearer(owner.tokens.access_token)
    invited = await ask("CreateInvitation", top, account_id=account, role=MEMBER_ROLE_ADMIN, email="bob@example.com")
    bob = await register(ask, "bob@example.com", invitation=invited.code)
    by = bearer(bob.tokens.access_token)
    strong = KeyScope(admin_role=MEMBER_ROLE_OWNER)
    powerful = await ask("IssueKey", top, key=CreateKeyRequest(project_id=owner.project_id, scope=strong))
    change = pb.Member(account_id=account, person_id=bob.person.id, role=MEMBER_ROLE_OWNER)
    lower = pb.Member(account_id=account, person_id=owner.person.id, role=MEMBER_ROLE_VIEWER)
    attempts = [
        ask("CreateInvitation", by, account_id=account, role=MEMBER_ROLE_OWNER, email="c@example.com"),
        ask("UpdateMember", by, member=change),
        ask("UpdateMember", by, member=lower),
        ask("DeleteMember", by, account_id=account, person_id=owner.person.id),
        ask("IssueKey", by, key=CreateKeyRequest(project_id=owner.project_id, scope=strong)),
        ask("RotateKey", by, key=powerful.key.id),
        ask("UpdateKey", by, key=auth_pb2.Key(id=owner.key.id, scope=strong)),
        ask("UpdateMember", top, member=lower),
        ask("DeleteMember", top, account_id=account, person_id=owner.person.id),
    ]

    assert ["REASON_NOT_PERMITTED"] * len(attempts) == [await reason(attempt) for attempt in attempts]


async def test_project_narrows_a_role(ask: Ask) -> None:
    """A member who is a viewer in one project makes keys in the others only."""
    owner = await register(ask)
    account, top = owner.account_id, bearer(owner.tokens.access_token)
    other = (await ask("CreateProject", top, account_id=account, name="other")).project.id
    invited = await ask("CreateInvitation", top, account_id=account, email="bob@example.com")
    bob = await register(ask, "bob@example.com", invitation=invited.code)
    narrow = pb.ProjectRole(project_id=owner.project_id, role=MEMBER_ROLE_BILLING)
    wanted = pb.Member(account_id=account, person_id=bob.person.id, project_roles=[narrow])
    done = (await ask("UpdateMember", top, member=wanted)).member
    by = bearer(bob.tokens.access_token)
    made = (await ask("IssueKey", by, key=CreateKeyRequest(project_id=other))).key

    assert (MEMBER_ROLE_MEMBER, [narrow]) == (done.role, list(done.project_roles))
    assert "REASON_NOT_PERMITTED" == await reason(
        ask("IssueKey", by, key=CreateKeyRequest(project_id=owner.project_id))
    )
    assert [made.id] == [key.id for key in (await ask("SearchKeys", by)).keys]


async def test_key_with_an_admin_role_is_bound_by_itself(ask: Ask) -> None:
    """What it makes has it as creator and no more than it has; it sees its own project only."""
    owner = await register(ask)
    top = bearer(owner.tokens.access_token)
    other = (await ask("CreateProject", top, account_id=owner.account_id, name="other")).project.id
    scope = KeyScope(admin_role=MEMBER_ROLE_MEMBER, policies=["fast"], regions=["eu"], spend_class=SPEND_CLASS_INCLUDED)
    wanted = CreateKeyRequest(project_id=owner.project_id, models=["a"], lifetime=Duration(seconds=90), scope=scope)
    parent = await ask("IssueKey", top, key=wanted)
    by = bearer(parent.secret)
    wanted.lifetime.FromSeconds(60)
    child = (await ask("IssueKey", by, key=wanted)).key
    unbound = CreateKeyRequest(models=["a"], lifetime=Duration(seconds=60))
    attempts = [
        ask("IssueKey", by, key=unbound),
        ask("UpdateKey", by, key=auth_pb2.Key(id=child.id, models=["b"])),
        ask("RotateKey", by, key=owner.key.id),
        ask("GetAccount", by, account_id=owner.account_id),
    ]

    assert parent.key.id == child.creator_key_id
    assert ["REASON_NOT_PERMITTED"] * 4 == [await reason(attempt) for attempt in attempts]
    assert "REASON_NOT_FOUND" == await reason(ask("GetProject", by, project_id=other))
    assert "REASON_NOT_PERMITTED" == await reason(ask("ListProjects", bearer(owner.secret)))


async def test_names_given_to_creations_are_each_tenants_own(ask: Ask) -> None:
    """The same name in two accounts makes two keys."""
    made = [
        await ask("IssueKey", bearer(one.tokens.access_token), key=CreateKeyRequest(request_id="once"))
        for one in (await register(ask), await register(ask, "bob@example.com"))
    ]

    assert 2 == len({one.key.id for one in made})
    assert all(one.secret for one in made)


async def test_changes_say_who_made_them(ask: Ask) -> None:
    """To the people of the account; the log is found intact, or not."""
    owner, bob = await register(ask), await register(ask, "bob@example.com")
    by = bearer(owner.tokens.access_token)
    await ask("CreateProject", by, account_id=owner.account_id, name="web")
    events = (await ask("ListAuditEvents", by)).events
    first = await ask("VerifyAuditLog")
    shorter = await ask("VerifyAuditLog", known_id=first.last_id + 1, known_digest="00" * 32)

    assert ["CreateProject", "Register"] == [event.action for event in events]
    assert {f"person:{owner.person.id}"} == {event.actor for event in events}
    assert [] == [event for event in events if bob.account_id in str(event)]
    assert (True, 0, first.events) == (first.intact, first.broken_id, first.last_id)
    assert (False, first.last_id + 1) == (shorter.intact, shorter.broken_id)


async def test_imported_key_calls_unchanged(ask: Ask, auth_stub: AuthServiceStub) -> None:
    """Known by its SHA-256 only; with its limits, once, and nobody else's key with it."""
    foreign = "sk-1234-litellm-virtual-key"
    digest = sha256(foreign.encode()).hexdigest()
    row = pb.ForeignKey(sha256=digest.upper(), name="app", models=["m"], requests_per_minute=60, budget_nanos=10**9)
    first = (await ask("ImportKeys", keys=[row])).keys[0]
    again = (await ask("ImportKeys", keys=[row])).keys[0]
    verdict = (await auth_stub.Authorize(auth_pb2.AuthorizeRequest(credential=foreign), timeout=5)).verdict
    wrong = [
        await reason(auth_stub.Authorize(auth_pb2.AuthorizeRequest(credential=credential), timeout=5))
        for credential in (digest, f"sha256:{digest}", foreign + "x", "short")
    ]
    await ask("EndKey", key=first.key.id)

    assert (True, False, first.key.id) == (first.created, again.created, again.key.id)
    assert (first.key.id, ["m"], first.key.id) == (verdict.caller.key_id, list(verdict.models), verdict.purse)
    assert [60] == [limit.amount for limit in verdict.limits]
    assert ["REASON_CREDENTIAL_INVALID"] * 4 == wrong
    assert "REASON_CREDENTIAL_INVALID" == await reason(
        auth_stub.Authorize(auth_pb2.AuthorizeRequest(credential=foreign), timeout=5)
    )


@pytest.mark.parametrize("policy", ["closed", "invited"])
async def test_registration_is_as_the_operator_set_it(policy: Any, kind: str, link: Any, tmp_path: Path) -> None:
    """Closed to everybody by default; or open to whoever has an invitation."""
    config = AuthConfig(registration=policy, password_memory=8, password_rounds=1)
    async with assembled(config, data_dir=prepare(tmp_path / "other")) as role:
        channel = await link("auth", *role.services)
        request = pb.RegisterRequest(email="a@example.com", password=PASSWORD)
        refused = await refusal(call(channel, PEOPLE.methods_by_name["Register"], request, ()))
        invitation = await call(
            channel,
            ADMIN.methods_by_name["CreateInvitation"],
            pb.CreateInvitationRequest(email="a@example.com"),
            (("polyroute-admin", role.admin_secret),),
        )
        request.invitation = invitation.code
        invited = call(channel, PEOPLE.methods_by_name["Register"], request, ())

        assert REASON_NOT_PERMITTED == refused.reason
        if policy == "invited":
            assert (await invited).project_id
        else:
            assert REASON_NOT_PERMITTED == (await refusal(invited)).reason
    assert "closed" == AuthConfig().registration


async def test_nobody_is_nobody(ask: Ask) -> None:
    """Without a token, with one that was made up, with one of another kind."""
    assert REASON_CREDENTIAL_MISSING == (await refusal(ask("GetSelf", ()))).reason
    for token in ("eyJhbGciOiJub25lIn0.e30.", "eyJ.eyJ.x", "pr-" + "x" * 43):
        assert REASON_CREDENTIAL_INVALID == (await refusal(ask("ListProjects", bearer(token)))).reason
    assert REASON_NOT_FOUND == (await refusal(ask("BeginOidc", (), provider="none"))).reason
