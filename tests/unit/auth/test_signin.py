"""Passwords, tokens and how often somebody may try, with clocks that only move when told to."""

import asyncio
import secrets
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import OctKey
from pydantic import ValidationError
from sqlalchemy import func, select

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.config import AuthConfig
from polyroute.auth.keys import Digester
from polyroute.auth.people import sessions
from polyroute.auth.people.known import NewPerson
from polyroute.auth.people.passwords import Passwords
from polyroute.auth.people.registry import People as Registry
from polyroute.auth.people.registry import add_person
from polyroute.auth.people.sessions import Sessions
from polyroute.auth.people.throttle import ADDRESS, BOTH, KEPT, NAME, Throttle
from polyroute.auth.people.tokens import AUDIENCE, ISSUER, AccessTokens, Bearer, load_or_create
from polyroute.mesh.errors import MeshError
from tests.unit.auth.installation import PEPPER, Clock, Installation

ANN = Bearer("per_1", "ses_1")


def attempts(throttle: Throttle, name: str, address: str, most: int = 1000) -> int:
    """How many attempts in a row are let through."""
    for count in range(most):
        try:
            throttle.take(name, address)
        except MeshError as error:
            return count if error.reason == errors_pb2.REASON_RATE_LIMITED else -1
    return most


def test_attempts_come_back_with_time() -> None:
    """As many a minute as the tightest rate says."""
    clock = Clock()
    throttle = Throttle(clock)
    first = attempts(throttle, "ann", "192.0.2.1")
    clock.advance(60)

    assert (BOTH.burst, BOTH.amount) == (first, attempts(throttle, "ann", "192.0.2.1"))


def test_retry_after_is_when_it_works_again() -> None:
    """Not a moment later."""
    clock = Clock()
    throttle = Throttle(clock)
    attempts(throttle, "ann", "192.0.2.1")
    with pytest.raises(MeshError) as refused:
        throttle.take("ann", "192.0.2.1")
    clock.advance((refused.value.retry_after or 0) + 0.001)

    throttle.take("ann", "192.0.2.1")


def test_one_address_tries_many_names_in_vain() -> None:
    """And many addresses one name."""
    throttle = Throttle(Clock())

    assert ADDRESS.burst == sum(attempts(throttle, f"name{number}", "192.0.2.1", 1) for number in range(200))
    assert NAME.burst == sum(attempts(throttle, "ann", f"198.51.100.{number}", 1) for number in range(200))


@pytest.mark.parametrize(
    ("address", "other", "one"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_network_of_one_subscriber_is_one_address(address: str, other: str, one: bool) -> None:
    """Of IPv6; an IPv4 address is itself in either form."""
    throttle = Throttle(Clock())
    attempts(throttle, "ann", address)

    assert (0 if one else BOTH.burst) == attempts(throttle, "ann", other)


def test_success_costs_nothing() -> None:
    """Who knows the password signs in as often as they like."""
    throttle = Throttle(Clock())
    for _ in range(500):
        throttle.take("ann", "192.0.2.1").succeeded()


def test_flood_of_names_costs_no_memory() -> None:
    """What was used last stays."""
    throttle = Throttle(Clock())
    for number in range(KEPT + 50):
        throttle.take(f"name{number}", "")

    assert len(throttle._arrivals) == KEPT


async def test_password_is_kept_as_argon2id() -> None:
    """Never twice the same; composed or not, it is the same password."""
    passwords = Passwords(memory=8, rounds=1)
    kept = await passwords.hashed("Zo\u00eb and friends")

    assert kept.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert kept != await passwords.hashed("Zo\u00eb and friends")
    assert await passwords.matches(kept, "Zoe\u0308 and friends")
    assert not await passwords.matches(kept, kept)
    assert not await passwords.matches(None, "Zo\u00eb and friends")
    assert not await passwords.matches("not a hash", "x")


async def test_nobody_is_hashed_for_too() -> None:
    """An unknown person takes the work that a known one takes: the time tells nothing."""
    passwords = Passwords(memory=8, rounds=1)
    checked: list[str] = []
    verified = passwords._verified

    def noted(kept: str, password: bytes) -> bool:
        checked.append(kept)
        return verified(kept, password)

    passwords._verified = noted  # type: ignore[method-assign]
    kept = await passwords.hashed("a password of ann")
    await passwords.matches(kept, "wrong")
    await passwords.matches(None, "wrong")

    assert [one.rsplit("$", 2)[0] for one in checked] == ["$argon2id$v=19$m=8,t=1,p=1"] * 2


async def test_parameters_grow_with_the_settings() -> None:
    """What was hashed under weaker ones shows."""
    weak, strong = Passwords(memory=8, rounds=1), Passwords(memory=16, rounds=2)
    kept = await weak.hashed("a password of ann")

    assert (False, True) == (weak.outdated(kept), strong.outdated(kept))
    assert await strong.matches(kept, "a password of ann")


async def test_checks_at_once_are_bounded() -> None:
    """Each takes memory of its own."""
    passwords = Passwords(memory=8, rounds=1)
    running, most = 0, 0
    verified = passwords._verified

    def counted(kept: str, password: bytes) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        result = verified(kept, password)
        running -= 1
        return result

    passwords._verified = counted  # type: ignore[method-assign]
    await asyncio.gather(*(passwords.matches(None, "x") for _ in range(20)))

    assert most <= 2


def test_token_says_who_until_it_ends() -> None:
    """By this installation's clock."""
    clock = Clock()
    tokens = AccessTokens([secrets.token_hex(32)], valid_for=600, now=clock)
    token = tokens.give(ANN)
    clock.advance(599)
    before = tokens.read(token)
    clock.advance(2)

    assert ANN == before
    with pytest.raises(MeshError):
        tokens.read(token)


def test_key_in_use_may_change() -> None:
    """Tokens of the one before are good until they end; without it, they are not."""
    old, new = secrets.token_hex(32), secrets.token_hex(32)
    token = AccessTokens([old], valid_for=600).give(ANN)

    assert ANN == AccessTokens([new, old], valid_for=600).read(token)
    with pytest.raises(MeshError):
        AccessTokens([new], valid_for=600).read(token)


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "other"},
        {"aud": "other"},
        {"exp": 0},
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"sid": None},
        {"iat": 4_000_000_000},
        {"nbf": 4_000_000_000},
    ],
    ids=str,
)
def test_claims_are_checked(changed: dict[str, Any]) -> None:
    """Each of them, under a good signature."""
    secret, clock = secrets.token_hex(32), Clock()
    now = int(clock())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "per_1", "sid": "ses_1", "iat": now, "exp": now + 600, **changed}
    tokens = AccessTokens([secret], valid_for=600, now=clock)
    header = {"alg": "HS256", "typ": "at+jwt", "kid": tokens._kid}
    given = {name: value for name, value in claims.items() if value is not None}
    token = jwt.encode(header, given, OctKey.import_key(bytes.fromhex(secret)))

    with pytest.raises(MeshError):
        tokens.read(token)


@given(place=st.integers(0, 10_000), character=st.sampled_from("Aa0-_."))
def test_changed_token_is_nobodys(place: int, character: str) -> None:
    """Whichever character it is; the last one of a signature may hold bits that mean nothing."""
    tokens = AccessTokens(["11" * 32], valid_for=600, now=Clock())
    token = tokens.give(ANN)
    place %= len(token) - 1
    changed = token[:place] + character + token[place + 1 :]
    if changed == token:
        return

    with pytest.raises(MeshError):
        tokens.read(changed)


async def test_nobody_fills_the_disk_by_signing_in(auth: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of too many sessions ends, and the oldest of too many used tokens is merely unknown."""
    monkeypatch.setattr(sessions, "SESSIONS", 3)
    monkeypatch.setattr(sessions, "USED_TOKENS", 2)
    database, clock = auth.store.database, Clock()
    people = Registry(database)
    await database.write(lambda connection: add_person(connection, NewPerson("ann@example.com", "Ann"), 0))
    ann = await people.by_email("ann@example.com")
    tokens = AccessTokens([secrets.token_hex(32)], valid_for=60)
    kept = Sessions(database, Digester(PEPPER), tokens, lasts=3600, now=clock)
    assert ann is not None
    pairs = []
    for _ in range(4):
        clock.advance(1)
        pairs.append(await kept.begin(ann.id))
    chain = [pairs[3]]
    for _ in range(6):
        clock.advance(1)
        chain.append(await kept.refresh(chain[-1].refresh))
    count = select(func.count()).select_from(schema.refresh_tokens)
    rows = await database.read(lambda connection: connection.scalar(count))

    assert 2 + 3 == rows  # two other sessions; and of this one, two that were used and one that was not
    with pytest.raises(MeshError):
        await kept.refresh(pairs[0].refresh)
    with pytest.raises(MeshError):
        await kept.refresh(chain[0].refresh)
    assert (await kept.refresh(chain[-1].refresh)).refresh
    with pytest.raises(MeshError):
        await kept.refresh(chain[-1].refresh)


def test_file_of_token_keys_is_its_owners(tmp_path: Path) -> None:
    """Made once."""
    path = tmp_path / "tokens"

    assert load_or_create(path) == load_or_create(path)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("given_amount", "nanos"),
    [("1.00 USD", 10**9), ("0.000000001USD", 1), ("12 USD", 12 * 10**9), (5, 5), ("7", 7)],
)
def test_trial_quota_is_read_exactly(given_amount: Any, nanos: int) -> None:
    """In dollars or nano-dollars."""
    assert nanos == AuthConfig(trial_quota=given_amount).trial_quota


@pytest.mark.parametrize("given_amount", ["1.0000000001 USD", "-1 USD", "1 EUR", "a lot", -1])
def test_trial_quota_that_is_none(given_amount: Any) -> None:
    """Refused."""
    with pytest.raises(ValidationError):
        AuthConfig(trial_quota=given_amount)
