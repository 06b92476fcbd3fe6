"""Signing in by an identity provider: OpenID Connect's authorization code with PKCE (RFC 7636).

What must be known when the browser comes back travels with it, in a cookie that only this installation can read or
make. A redirection without the cookie, or with another sign-in's, is refused: nobody can be signed in as somebody else
by a link.
"""

import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from sqlalchemy import Connection

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.admin import journal
from polyroute.auth.admin.journal import Change
from polyroute.auth.database import Database
from polyroute.auth.people import messages
from polyroute.auth.people.issuer import Issuer
from polyroute.auth.people.known import Identity, NewPerson, Person
from polyroute.auth.people.members import find, join, leave
from polyroute.auth.people.registrar import Registrar
from polyroute.auth.people.registry import People, well_formed
from polyroute.auth.people.roles import GRANTS, Role
from polyroute.auth.people.throttle import Throttle
from polyroute.mesh.errors import MeshError

COOKIE_SECONDS: Final = 600.0
_ALGORITHMS: Final = ("dir", "A256GCM")
_ACTOR: Final = "oidc"


@dataclass(frozen=True, slots=True)
class Departure:
    """Where a browser is sent, what it brings back, and where to."""

    url: str
    back: str
    cookie: str = field(repr=False)


class Oidc:
    """Signs people in by identity providers.

    Args:
        issuers: The providers, by their names in the settings.
        people: Knows who is who.
        registrar: Lets new ones in.
        database: Where memberships are.
        throttle: Counts those who come back.
        key: Seals cookies; any bytes that are this installation's own.
        now: Wall clock, seconds since the Unix epoch.
    """

    def __init__(
        self,
        issuers: Mapping[str, Issuer],
        people: People,
        registrar: Registrar,
        database: Database,
        throttle: Throttle,
        *,
        key: bytes,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._issuers = issuers
        self._people = people
        self._registrar = registrar
        self._database = database
        self._throttle = throttle
        self._key = OctKey.import_key(blake2b(key, digest_size=32, person=b"polyroute.oidc").digest())
        self._now = now

    async def begin(self, provider: str) -> Departure:
        """Where to go for signing in.

        Raises:
            MeshError: REASON_NOT_FOUND, there is no such provider; REASON_SERVICE_UNAVAILABLE, it cannot be used.
        """
        issuer = self._issuer(provider)
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        parameters = {
            "response_type": "code",
            "client_id": issuer.config.client_id,
            "redirect_uri": issuer.config.redirect_uri,
            "scope": " ".join(issuer.config.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        address = (await issuer.endpoints()).authorization
        url = f"{address}{'&' if '?' in address else '?'}{urlencode(parameters)}"
        kept = [provider, state, nonce, verifier, self._now() + COOKIE_SECONDS]
        header = {"alg": _ALGORITHMS[0], "enc": _ALGORITHMS[1]}
        cookie = jwe.encrypt_compact(header, orjson.dumps(kept), self._key, algorithms=list(_ALGORITHMS))
        return Departure(url, issuer.config.redirect_uri, cookie)

    async def finish(self, code: str, state: str, cookie: str, *, sender: str, address: str) -> tuple[Person, bool]:
        """Who came back, and whether they are new.

        Args:
            code: From the redirection.
            state: From the redirection.
            cookie: From the beginning.
            sender: Whom the redirection says it is from (RFC 9207); empty when it does not.
            address: Where the browser is; empty when nobody knows.

        Raises:
            MeshError: REASON_CREDENTIAL_INVALID: the cookie or the token is not good, or the person is shut out;
                REASON_NOT_PERMITTED: they are new, and new ones are not let in; REASON_RATE_LIMITED;
                REASON_SERVICE_UNAVAILABLE.
        """
        attempt = self._throttle.take("", address)
        provider, kept_state, nonce, verifier, ends = self._opened(cookie)
        if not hmac.compare_digest(kept_state.encode(), state.encode()) or ends <= self._now():
            raise _refused()
        issuer = self._issuer(provider)
        if sender and sender != issuer.config.issuer:
            raise _refused()
        claims = await issuer.redeem(code, verifier, nonce)
        attempt.succeeded()
        person, created = await self._recognised(issuer, claims)
        if person.disabled:
            raise _refused()
        if issuer.config.account:
            await self._place(person, issuer.config.account, _role(issuer, claims))
        return person, created

    async def _recognised(self, issuer: Issuer, claims: Mapping[str, Any]) -> tuple[Person, bool]:
        """Whom the claims are about, and whether they are new here."""
        config = issuer.config
        identity = Identity(config.issuer, claims["sub"])
        person = await self._people.by_identity(identity)
        if person is not None:
            return person, False
        email = claims.get("email")
        verified = claims.get("email_verified") is True and isinstance(email, str) and well_formed(email)
        known = await self._people.by_email(str(email)) if verified and config.link_by_email else None
        if known is not None and known.verified:  # an address that anybody could have entered proves nothing
            await self._people.link(known.id, identity)
            return known, False
        role = _role(issuer, claims)
        if not config.create or (config.account and role is None):
            raise MeshError(errors_pb2.REASON_NOT_PERMITTED, "nobody has let you in here yet")
        taken = isinstance(email, str) and await self._people.by_email(email) is not None
        new = NewPerson(
            str(email) if verified and not taken else "",
            str(claims.get("name") or email or claims["sub"]),
            verified=verified and not taken,
            identity=identity,
        )
        arrival = await self._registrar.admit(new, config.account, role or Role.MEMBER)
        return arrival.person, arrival.created

    async def _place(self, person: Person, account_id: str, role: Role | None) -> None:
        """Gives a person the role that the provider says in its account; None takes them out."""
        now = round(self._now() * 1e6)

        def work(connection: Connection) -> None:
            before = find(connection, account_id, person.id)
            if role is None:
                leave(connection, account_id, person.id)
            elif before is None or before.role != role:
                join(connection, account_id, person.id, role, now)
            after = find(connection, account_id, person.id)
            if before != after:
                states = (None if one is None else messages.member(one) for one in (before, after))
                journal.record(connection, Change(_ACTOR, "UpdateMember", account_id, *states), now)

        await self._database.write(work)

    def _issuer(self, provider: str) -> Issuer:
        issuer = self._issuers.get(provider)
        if issuer is None:
            raise MeshError(
                errors_pb2.REASON_NOT_FOUND, "there is no such identity provider", metadata={"resource": provider}
            )
        return issuer

    def _opened(self, cookie: str) -> Sequence[Any]:
        try:
            opened = jwe.decrypt_compact(cookie, self._key, algorithms=list(_ALGORITHMS))
            kept: Sequence[Any] = orjson.loads(opened.plaintext or b"")
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise _refused() from error
        return kept


def _role(issuer: Issuer, claims: Mapping[str, Any]) -> Role | None:
    """What the provider's groups make of a person in its account; None is nothing."""
    config = issuer.config
    if not config.groups:
        return Role[config.role.upper()]
    listed = claims.get(config.groups_claim)
    groups = listed if isinstance(listed, list) else [listed]
    roles = {Role[config.groups[group].upper()] for group in groups if group in config.groups}
    return max(roles, key=lambda role: (len(GRANTS[role]), -role), default=None)


def _refused() -> MeshError:
    return MeshError(errors_pb2.REASON_CREDENTIAL_INVALID, "the sign-in is not valid: begin again")
