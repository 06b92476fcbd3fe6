"""What somebody tries who wants to be somebody else, or more than they are."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from polyroute.api.auth.v1 import admin_pb2
from polyroute.api.auth.v1 import people_pb2 as pb
from polyroute.api.auth.v1.auth_pb2 import (
    MEMBER_ROLE_ADMIN,
    MEMBER_ROLE_MEMBER,
    MEMBER_ROLE_VIEWER,
    CreateKeyRequest,
    KeyScope,
)
from polyroute.api.auth.v1.limits_pb2 import LIMIT_KIND_REQUESTS, PERIOD_TOTAL, Budget, Limit
from polyroute.api.errors.v1.errors_pb2 import (
    REASON_CREDENTIAL_INVALID,
    REASON_EXISTS,
    REASON_INVALID_REQUEST,
    REASON_NOT_FOUND,
    REASON_NOT_PERMITTED,
)
from polyroute.auth.config import AuthConfig
from polyroute.auth.people.config import OidcConfig
from polyroute.auth.people.tokens import AUDIENCE, ISSUER
from polyroute.auth.wiring import Auth, assembled
from polyroute.mesh.errors import from_rpc
from tests.databases import prepare
from tests.rpc.auth.cast import ADMIN, Metadata, bearer, call
from tests.rpc.auth.provider import Provider, coded, serving

pytestmark = pytest.mark.parametrize("kind", ["local"], indirect=True)

PASSWORD = "correct horse battery"
PEOPLE = pb.DESCRIPTOR.services_by_name["PeopleService"]


@pytest.fixture
async def provider() -> AsyncGenerator[Provider]:
    """An identity provider whose addresses are verified."""
    async with serving() as running:
        yield running


@pytest.fixture
async def auth(tmp_path: Path, provider: Provider) -> AsyncGenerator[Auth]:
    """A role where everybody may register, and that links people by their addresses."""
    corp = OidcConfig(
        issuer=provider.url,
        client_id=provider.client_id,
        redirect_uri="https://gateway.example.com/admin/v1/oidc/callback",
        link_by_email=True,
    )
    config = AuthConfig(registration="open", oidc={"corp": corp}, password_memory=8, password_rounds=1)
    async with assembled(config, data_dir=prepare(tmp_path / "data")) as role:
        yield role


class House:
    """The installation, as everybody in it asks."""

    def __init__(self, channel: Any, admin: Metadata, provider: Provider) -> None:
        self._channel = channel
        self._admin = admin
        self.provider = provider

    async def __call__(self, method: str, by: Metadata | None = None, **fields: Any) -> Any:
        """Asks PeopleService or AdminService; the operator unless said."""
        service = PEOPLE if method in PEOPLE.methods_by_name else ADMIN
        descriptor = service.methods_by_name[method]
        module: Any = next(one for one in (pb, admin_pb2) if hasattr(one, descriptor.input_type.name))
        request = getattr(module, descriptor.input_type.name)(**fields)
        return await call(self._channel, descriptor, request, self._admin if by is None else by)

    async def reason(self, method: str, by: Metadata | None = None, **fields: Any) -> int:
        """Why a request is refused."""
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self(method, by, **fields)
        return from_rpc(refused.value).reason

    async def register(self, name: str, **fields: Any) -> Any:
        """Somebody new."""
        return await self("Register", (), email=f"{name}@example.com", password=PASSWORD, **fields)

    async def enter(self) -> Any:
        """A sign-in by the identity provider."""
        begun = await self("BeginOidc", (), provider="corp")
        brought = self.provider.consent(begun.url)
        return await self("FinishOidc", (), **brought, state_cookie=begun.state_cookie)


@pytest.fixture
def house(channel: Any, admin: Metadata, provider: Provider) -> House:
    """See `House`."""
    return House(channel, admin, provider)


async def test_one_kind_of_token_is_not_another(house: House, tmp_path: Path) -> None:
    """An access token refreshes nothing, a refresh token opens nothing, nor does our signature under other claims."""
    done = await house.register("ann")
    access, refresh = done.tokens.access_token, done.tokens.refresh_token
    secret = (tmp_path / "data" / "auth.db.tokens").read_text().strip()
    header, claims, _ = access.split(".")
    key = OctKey.import_key(bytes.fromhex(secret))
    now = int(time.time())
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": done.person.id, "sid": "ses_1", "iat": now, "exp": now + 60}
    forged = [
        f"{coded({'alg': 'none'})}.{claims}.",
        f"{coded({'alg': 'HS512', 'typ': 'at+jwt'})}.{claims}.{access.rpartition('.')[2]}",
        f"{header}.{claims}.",
        f"{header}.{claims}x.{access.rpartition('.')[2]}",
        "ey[].ey.ey",
        f"{coded({'alg': 'HS256', 'kid': ['x']})}.{claims}.x",
        f"{coded({'alg': ['HS256'], 'crit': 'x', 'b64': False})}.{claims}.x",
        *(
            jwt.encode({"alg": "HS256", "typ": "at+jwt", **more}, {**usual, **changed}, key)
            for more, changed in (
                ({"typ": "JWT"}, {}),
                ({}, {"aud": "polyroute-other"}),
                ({}, {"iss": "https://sso.example.com"}),
                ({}, {"sub": ["x"]}),
                ({}, {}),
            )
        ),
    ]
    reasons = [await house.reason("GetSelf", bearer(token)) for token in (refresh, done.secret, *forged)]
    reasons += [await house.reason("ListAccounts", bearer(token)) for token in (refresh, *forged)]
    reasons += [await house.reason("RefreshTokens", (), refresh_token=token[:128]) for token in (access, done.secret)]

    assert {REASON_CREDENTIAL_INVALID} == set(reasons)
    assert done.person.id == (await house("GetSelf", bearer(access))).person.id


async def test_two_who_refresh_at_once_are_a_thief_and_an_owner(house: House) -> None:
    """At most one gets tokens, and the session ends for both."""
    done = await house.register("ann")
    token = done.tokens.refresh_token
    answers = await asyncio.gather(
        *(house("RefreshTokens", (), refresh_token=token) for _ in range(8)), return_exceptions=True
    )
    [given] = [answer for answer in answers if not isinstance(answer, BaseException)]

    assert REASON_CREDENTIAL_INVALID == await house.reason("GetSelf", bearer(given.tokens.access_token))
    assert REASON_CREDENTIAL_INVALID == await house.reason(
        "RefreshTokens", (), refresh_token=given.tokens.refresh_token
    )


async def test_code_that_many_use_at_once_lets_one_in(house: House) -> None:
    """An invitation, and a reset of a password."""
    ann = await house.register("ann")
    code = (await house("CreateInvitation", account_id=ann.account_id, email="bob@example.com")).code
    invited = await asyncio.gather(*(house.register("bob", invitation=code) for _ in range(4)), return_exceptions=True)
    reset = (await house("CreatePasswordReset", person_id=ann.person.id)).code
    wanted = [f"{PASSWORD} {number}" for number in range(4)]
    done = await asyncio.gather(
        *(house("ResetPassword", (), code=reset, new_password=one) for one in wanted), return_exceptions=True
    )

    assert 1 == sum(not isinstance(answer, BaseException) for answer in invited)
    assert 1 == sum(not isinstance(answer, BaseException) for answer in done)


async def test_invitation_by_a_tenant_vouches_for_no_address(house: House) -> None:
    """Who invites somebody else's address and registers as them does not get what they sign in to later."""
    mallory = await house.register("mallory")
    by = bearer(mallory.tokens.access_token)
    code = (await house("CreateInvitation", by, account_id=mallory.account_id, email="ann@example.com")).code
    fake = await house.register("ann", invitation=code)
    ann = await house.enter()
    vouched = await house("CreateInvitation", email="operators-word@example.com")
    real = await house.register("operators-word", invitation=vouched.code)
    house.provider.claims = {"sub": "sub-2", "email": "operators-word@example.com"}

    assert (True, False) == (ann.created, ann.person.id == fake.person.id)
    assert real.person.id == (await house.enter()).person.id


async def test_two_first_sign_ins_at_once_make_one_person(house: House) -> None:
    """The second finds whom the first made."""
    found = await asyncio.gather(*(house.enter() for _ in range(4)))

    assert 1 == len({one.person.id for one in found})
    assert 1 == sum(one.created for one in found)


async def test_somebody_narrowed_gives_nothing_wider(house: House) -> None:
    """Where they may do less in one project, nobody they invite may do more there."""
    ann = await house.register("ann")
    bob = await house("CreatePerson", email="bob@example.com", account_id=ann.account_id, role=MEMBER_ROLE_ADMIN)
    await house("ResetPassword", (), code=bob.code, new_password=PASSWORD)
    by = bearer((await house("SignIn", (), email="bob@example.com", password=PASSWORD)).tokens.access_token)
    invited = {"account_id": ann.account_id, "email": "puppet@example.com", "role": MEMBER_ROLE_ADMIN}
    before = await house("CreateInvitation", by, **invited)
    narrower = [pb.ProjectRole(project_id=ann.project_id, role=MEMBER_ROLE_VIEWER)]
    member = pb.Member(account_id=ann.account_id, person_id=bob.person.id, project_roles=narrower)
    await house("UpdateMember", member=member)

    assert before.code
    assert REASON_NOT_PERMITTED == await house.reason("CreateInvitation", by, **invited)
    assert (await house("CreateInvitation", by, **{**invited, "role": MEMBER_ROLE_VIEWER})).code


async def test_key_does_not_lift_what_binds_it(house: House) -> None:
    """Neither its own limit and budget, nor by the secret of another key in its project that has none."""
    ann = await house.register("ann")
    wanted = CreateKeyRequest(project_id=ann.project_id, scope=KeyScope(admin_role=MEMBER_ROLE_ADMIN))
    made = await house("IssueKey", key=wanted)
    by, key = bearer(made.secret), made.key.id
    limit = Limit(scope=key, kind=LIMIT_KIND_REQUESTS, amount=1)
    await house("SetLimit", limit=limit)
    budget = (await house("SetBudget", budget=Budget(scope=key, period=PERIOD_TOTAL, amount_nanos=1))).budget
    wider = Budget(id=budget.id, scope=key, period=PERIOD_TOTAL, amount_nanos=10**12)
    attempts = [
        await house.reason("SetLimit", by, limit=Limit(scope=key, kind=LIMIT_KIND_REQUESTS, amount=10**6)),
        await house.reason("DeleteLimit", by, limit=limit),
        await house.reason("SetBudget", by, budget=wider),
        await house.reason("DeleteBudget", by, budget_id=budget.id),
        await house.reason("RotateKey", by, key=ann.key.id),
    ]

    assert {REASON_NOT_PERMITTED} == set(attempts)
    assert (await house("RotateKey", by, key=key)).secret


async def test_key_is_not_widened_by_its_update(house: House) -> None:
    """A role, fewer bounds, another project: each way of asking is looked at."""
    ann = await house.register("ann")
    scope = KeyScope(admin_role=MEMBER_ROLE_MEMBER, routes=["/v1/*"])
    made = await house("IssueKey", key=CreateKeyRequest(project_id=ann.project_id, scope=scope, models=["m"]))
    by, key = bearer(made.secret), made.key
    for changed in (
        {"scope": KeyScope(admin_role=MEMBER_ROLE_ADMIN, routes=["/v1/*"])},
        {"scope": KeyScope(admin_role=MEMBER_ROLE_MEMBER)},
        {"models": ["m", "other"]},
    ):
        wanted = type(key)(id=key.id, **changed)

        assert REASON_NOT_PERMITTED == await house.reason("UpdateKey", by, key=wanted)
    emptied = admin_pb2.UpdateKeyRequest(key=type(key)(id=key.id))
    emptied.update_mask.paths.append("models")
    assert REASON_NOT_PERMITTED == await house.reason("UpdateKey", by, key=emptied.key, update_mask=emptied.update_mask)


async def test_operator_creates_people(house: House) -> None:
    """In an account that is there, by an address that is one and nobody has; without a password until they set it."""
    made = await house("CreatePerson", email="Bob@example.com", name="B\x1b[2Job")
    again = await house.reason("CreatePerson", email="bob@example.com")
    odd = await house.reason("CreatePerson", email="b\x1bob@example.com")
    nowhere = await house.reason("CreatePerson", email="eve@example.com", account_id="acc_0")
    early = await house.reason("SignIn", (), email="bob@example.com", password=PASSWORD)
    [event] = [one for one in (await house("ListAuditEvents")).events if one.action == "CreatePerson"]

    assert ("bob@example.com", "B[2Job", False) == (made.person.email, made.person.name, made.person.has_password)
    assert [REASON_EXISTS, REASON_INVALID_REQUEST] == [again, odd]
    assert [REASON_NOT_FOUND, REASON_CREDENTIAL_INVALID] == [nowhere, early]
    after = json.loads(event.after)
    assert (made.person.id, made.account_id) == (after["person"]["id"], after["account_id"])
    assert "admin" == event.actor


async def test_log_of_changes_speaks_as_the_contract(house: House) -> None:
    """Each state is the resource's message as JSON: nothing of how it is kept here shows."""
    ann = await house.register("ann")
    limit = Limit(scope=ann.key.id, kind=LIMIT_KIND_REQUESTS, amount=60)
    await house("SetLimit", limit=limit)
    await house("DeleteLimit", limit=limit)
    await house("UpdatePerson", person=pb.Person(id=ann.person.id, disabled=True))
    events = {one.action: one for one in (await house("ListAuditEvents")).events}
    shown = {"scope": ann.key.id, "kind": "LIMIT_KIND_REQUESTS", "amount": "60"}

    assert shown == json.loads(events["SetLimit"].after) == json.loads(events["DeleteLimit"].before)
    assert "" == events["SetLimit"].before == events["DeleteLimit"].after
    assert json.loads(events["UpdatePerson"].after)["disabled"]
    assert ann.key.id == json.loads(events["Register"].after)["key"]["id"]
