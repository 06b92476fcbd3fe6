"""Signing in by an identity provider that really answers."""

import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc
import pytest
from joserfc.jwk import ECKey
from pydantic import ValidationError

from polyroute.api.auth.v1 import people_pb2 as pb
from polyroute.api.auth.v1.auth_pb2 import MEMBER_ROLE_ADMIN, MEMBER_ROLE_VIEWER
from polyroute.api.errors.v1.errors_pb2 import (
    REASON_CREDENTIAL_INVALID,
    REASON_NOT_PERMITTED,
    REASON_RATE_LIMITED,
    REASON_SERVICE_UNAVAILABLE,
)
from polyroute.auth.config import AuthConfig
from polyroute.auth.people.config import OidcConfig
from polyroute.auth.people.issuer import Issuer
from polyroute.auth.people.known import NewPerson
from polyroute.auth.people.roles import Role
from polyroute.auth.wiring import Auth, assembled
from polyroute.mesh.errors import MeshError, from_rpc
from tests.databases import prepare
from tests.rpc.auth.cast import bearer, call
from tests.rpc.auth.provider import (
    Provider,
    by_an_algorithm_nobody_allowed,
    by_somebody_else,
    serving,
    unsigned,
    with_public_key_as_secret,
)

pytestmark = pytest.mark.parametrize("kind", ["local"], indirect=True)

PEOPLE = pb.DESCRIPTOR.services_by_name["PeopleService"]


@pytest.fixture
async def provider() -> AsyncGenerator[Provider]:
    """The provider."""
    async with serving() as running:
        yield running


class House:
    """An installation that the provider's people may come to."""

    def __init__(self, auth: Auth, channel: Any, provider: Provider) -> None:
        self.auth = auth
        self.provider = provider
        self._channel = channel

    async def ask(self, method: str, request: Any, metadata: Any = ()) -> Any:
        """Asks PeopleService."""
        return await call(self._channel, PEOPLE.methods_by_name[method], request, metadata)

    async def begin(self) -> Any:
        """Where the browser goes."""
        return await self.ask("BeginOidc", pb.BeginOidcRequest(provider="corp"))

    async def enter(self, **changed: str) -> Any:
        """A whole sign-in; what the browser brings back may be changed."""
        begun = await self.begin()
        brought = {**self.provider.consent(begun.url), "state_cookie": begun.state_cookie, **changed}
        return await self.ask("FinishOidc", pb.FinishOidcRequest(**brought))

    async def refusal(self, **changed: str) -> int:
        """Why a sign-in fails."""
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self.enter(**changed)
        return from_rpc(refused.value).reason


@pytest.fixture
async def house(
    request: pytest.FixtureRequest, kind: str, link: Any, tmp_path: Path, provider: Provider
) -> AsyncGenerator[House]:
    """The installation, with the settings that a test asks for."""
    more = getattr(request, "param", {})
    corp = {
        "issuer": provider.url,
        "client_id": provider.client_id,
        "redirect_uri": "https://gateway.example.com/callback",
        **more,
    }
    config = AuthConfig(oidc={"corp": OidcConfig(**corp)}, password_memory=8, password_rounds=1)
    async with assembled(config, data_dir=prepare(tmp_path / "data")) as auth:
        yield House(auth, await link("auth", *auth.services), provider)


async def test_person_is_known_again_by_issuer_and_subject(house: House) -> None:
    """Whatever their address says the next time."""
    first = await house.enter()
    house.provider.claims = {"email": "other@example.com"}
    second = await house.enter()
    self = await house.ask("GetSelf", pb.GetSelfRequest(), bearer(second.tokens.access_token))

    assert (True, False) == (first.created, second.created)
    assert first.person.id == second.person.id == self.person.id
    assert ("ann@example.com", False) == (first.person.email, first.person.has_password)
    assert {"discovery": 1, "keys": 1} == house.provider.asked


async def test_browser_is_sent_with_pkce(house: House) -> None:
    """And nothing secret is in the address."""
    begun = await house.begin()

    for part in ("response_type=code", "code_challenge_method=S256", "state=", "nonce=", "scope=openid+email+profile"):
        assert part in begun.url
    assert begun.state_cookie not in begun.url


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example.com"},
        {"aud": "somebody-else"},
        {"aud": ["polyroute-test", "other"]},
        {"aud": ["polyroute-test", "other"], "azp": "other"},
        {"azp": "other"},
        {"exp": int(time.time()) - 3600},
        {"exp": None},
        {"iat": int(time.time()) + 3600},
        {"nonce": "another"},
        {"nonce": None},
        {"sub": None},
        {"sub": ""},
    ],
    ids=",".join,  # not their values: times differ from one worker to the next
)
async def test_token_for_somebody_else_or_another_time_is_refused(house: House, claims: dict[str, Any]) -> None:
    """Whatever is wrong with its claims."""
    house.provider.claims = claims

    assert REASON_CREDENTIAL_INVALID == await house.refusal()


async def test_forged_token_is_refused(house: House) -> None:
    """Unsigned, signed with what is public, signed by somebody else, by an algorithm that nobody allowed."""
    for forge in (
        unsigned,
        with_public_key_as_secret(house.provider),
        by_somebody_else,
        by_an_algorithm_nobody_allowed,
        lambda _: "no.token",
    ):
        house.provider.forge = forge

        assert REASON_CREDENTIAL_INVALID == await house.refusal()


async def test_browser_must_bring_its_own_cookie(house: House) -> None:
    """Not another sign-in's, none that was made up, and the state that belongs to it."""
    other = await house.begin()

    assert REASON_CREDENTIAL_INVALID == await house.refusal(state="guess")
    assert REASON_CREDENTIAL_INVALID == await house.refusal(state_cookie=other.state_cookie)
    assert REASON_CREDENTIAL_INVALID == await house.refusal(state_cookie="e.y.J.h.b")


async def test_code_works_once(house: House) -> None:
    """The provider says so."""
    assert REASON_CREDENTIAL_INVALID == await house.refusal(code="code-that-was-used")


async def test_issuer_that_says_it_is_another_is_not_used(house: House) -> None:
    """Nor one whose answer never ends; that one is not asked again at once, whoever begins a sign-in."""
    house.provider.issuer = "https://other.example.com"
    other = await house.refusal()
    house.provider.issuer, house.provider.large = "", True
    large = [await house.refusal() for _ in range(3)]

    assert [REASON_SERVICE_UNAVAILABLE] * 4 == [other, *large]
    assert {"discovery": 2} == house.provider.asked


async def test_who_comes_back_again_and_again_is_throttled(house: House) -> None:
    """By where they are: each costs the identity provider a question."""
    begun = await house.begin()
    brought = {**house.provider.consent(begun.url), "state_cookie": begun.state_cookie, "code": "guess"}
    metadata = (("polyroute-client", "192.0.2.1"),)
    refusals = set()
    for _ in range(50):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await house.ask("FinishOidc", pb.FinishOidcRequest(**brought), metadata)
        refusals.add(from_rpc(refused.value).reason)

    assert {REASON_CREDENTIAL_INVALID, REASON_RATE_LIMITED} == refusals


@pytest.mark.parametrize(
    ("issuer", "token_endpoint", "good"),
    [
        ("https://sso.example.com", "https://sso.example.com/token", True),
        ("https://sso.example.com", "http://127.0.0.1:8500/v1/kv", False),
        ("https://sso.example.com", "http://sso.example.com/token", False),
        ("https://sso.example.com", "https://user@sso.example.com/token", False),
        ("https://sso.example.com", "http://localhost:80@evil.example.com/", False),
        ("https://sso.example.com", "https://sso.example.com/to\r\nken", False),
        ("https://sso.example.com", "file:///etc/passwd", False),
        ("http://127.0.0.1:9000", "http://localhost:9001/token", True),
        ("http://127.0.0.1:9000", "http://10.0.0.1/token", False),
    ],
)
async def test_discovery_sends_nobody_elsewhere(kind: str, issuer: str, token_endpoint: str, good: bool) -> None:
    """An address that could be listened to, or that is this machine's and not the provider's, is none."""

    async def published(*_: Any) -> dict[str, Any]:
        url = "https://sso.example.com/x"
        return {"issuer": issuer, "authorization_endpoint": url, "jwks_uri": url, "token_endpoint": token_endpoint}

    config = OidcConfig(issuer=issuer, client_id="c", redirect_uri="https://g.example.com/c")
    try:
        found = (await Issuer(config, published).endpoints()).token
    except MeshError as error:
        found = str(error.reason)

    assert (token_endpoint if good else str(REASON_SERVICE_UNAVAILABLE)) == found


async def test_new_key_of_the_provider_is_found(house: House) -> None:
    """Looked for when none of the known ones fits, but not again and again."""
    await house.enter()
    issuer = house.auth.reception.people_service._oidc._issuers["corp"]
    house.provider.key = ECKey.generate_key("P-256", {"kid": "two", "use": "sig"})
    soon = await house.refusal()
    issuer._keys_since -= 60
    later = await house.enter()

    assert REASON_CREDENTIAL_INVALID == soon
    assert later.person.id


@pytest.mark.parametrize("house", [{"create": False}], indirect=True)
async def test_stranger_stays_outside(house: House) -> None:
    """Where the operator wants nobody new."""
    assert REASON_NOT_PERMITTED == await house.refusal()


@pytest.mark.parametrize(
    ("house", "verified", "claims", "same"),
    [
        ({}, True, {}, False),
        ({"link_by_email": True}, True, {}, True),
        ({"link_by_email": True}, False, {}, False),
        ({"link_by_email": True}, True, {"email_verified": False}, False),
        ({"link_by_email": True}, True, {"email_verified": "true"}, False),
    ],
    indirect=["house"],
)
async def test_address_links_only_where_both_sides_have_checked_it(
    house: House, verified: bool, claims: dict[str, Any], same: bool
) -> None:
    """And the operator wants it: an address that anybody may enter is no proof."""
    new = NewPerson("ann@example.com", "Ann", "x", verified=verified)
    ann = (await house.auth.reception.registrar.admit(new, "", Role.OWNER)).person
    house.provider.claims = claims
    found = await house.enter()

    assert same == (ann.id == found.person.id)
    assert same != found.created


async def test_group_decides_the_role_at_each_sign_in(kind: str, link: Any, tmp_path: Path, provider: Provider) -> None:
    """The strongest of them; who is in none any more is out of the account."""
    data_dir = prepare(tmp_path / "data")
    async with assembled(AuthConfig(), data_dir=data_dir) as auth:
        verdict = await auth.service._verdicts.authorize(auth.first_secret or "")
    corp = OidcConfig(
        issuer=provider.url,
        client_id=provider.client_id,
        redirect_uri="https://gateway.example.com/callback",
        account=verdict.account_id,
        groups={"staff": "viewer", "platform": "admin"},
    )
    async with assembled(AuthConfig(oidc={"corp": corp}), data_dir=data_dir) as auth:
        house = House(auth, await link("auth", *auth.services), provider)
        seen = []
        for groups in (["staff"], ["staff", "platform"], "staff", ["other"]):
            provider.claims = {"groups": groups}
            tokens = (await house.enter()).tokens
            self = await house.ask("GetSelf", pb.GetSelfRequest(), bearer(tokens.access_token))
            seen.append([member.role for member in self.memberships])

    assert [[MEMBER_ROLE_VIEWER], [MEMBER_ROLE_ADMIN], [MEMBER_ROLE_VIEWER], []] == seen


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "http://sso.example.com"},
        {"algorithms": ["none"]},
        {"algorithms": ["HS256"]},
        {"algorithms": []},
        {"groups": {"a": "admin"}},
        {"scopes": ["email"]},
        {"issuer": "https://user@sso.example.com"},
        {"redirect_uri": "http://g.example.com/c"},
    ],
    ids=str,
)
def test_settings_that_could_never_be_safe_are_refused(kind: str, wrong: dict[str, Any]) -> None:
    """At the start, not at a sign-in."""
    good: dict[str, Any] = {
        "issuer": "https://sso.example.com",
        "client_id": "c",
        "redirect_uri": "https://g.example.com/c",
    }

    assert OidcConfig(**good).issuer
    with pytest.raises(ValidationError):
        OidcConfig(**{**good, **wrong})
