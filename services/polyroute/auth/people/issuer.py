"""An identity provider: what it publishes about itself, and whether a token is its own.

Written from OpenID Connect Core 1.0 (3.1.3.7), OpenID Connect Discovery 1.0 and RFC 9700.
"""

import asyncio
import hmac
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.people.config import OidcConfig, secure
from polyroute.auth.people.fetch import Ask
from polyroute.mesh.errors import MeshError

DISCOVERY: Final = "/.well-known/openid-configuration"
FRESH_SECONDS: Final = 3600.0  # that the document and the keys are used without asking again
SELDOM_SECONDS: Final = 30.0  # between two looks for a key that is not there
SILENT_SECONDS: Final = 5.0  # that a provider which did not answer is left alone
LEEWAY_SECONDS: Final = 60  # between the provider's clock and ours
_KINDS: Final = frozenset({"RSA", "EC", "OKP"})  # nothing symmetric: what verifies must not be able to sign

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the provider does what."""

    authorization: str
    token: str
    keys: str


class Issuer:
    """An identity provider.

    Args:
        config: Which.
        ask: Asks it.
        now: Wall clock, seconds since the Unix epoch.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        config: OidcConfig,
        ask: Ask,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self._ask = ask
        self._now = now
        self._clock = clock
        self._endpoints: Endpoints | None = None
        self._endpoints_until = 0.0
        self._discovering = asyncio.Lock()
        self._silent_until = -math.inf
        self._keys: KeySet | None = None
        self._keys_since = 0.0

    async def endpoints(self) -> Endpoints:
        """What it publishes, asked again from time to time.

        Raises:
            MeshError: REASON_SERVICE_UNAVAILABLE: it does not answer, or says that it is somebody else.
        """
        async with self._discovering:  # one asks for all who wait
            if self._endpoints is None or self._endpoints_until <= self._clock():
                self._endpoints = await self._discovered()
                self._endpoints_until = self._clock() + FRESH_SECONDS
            return self._endpoints

    async def _discovered(self) -> Endpoints:
        if self._clock() < self._silent_until:  # whoever asks us must not make us ask it again and again
            raise _unusable("it did not answer a moment ago")
        try:
            found = await self._ask(self.config.issuer.rstrip("/") + DISCOVERY, None, {})
        except MeshError:
            self._silent_until = self._clock() + SILENT_SECONDS
            raise
        if found.get("issuer") != self.config.issuer:
            raise _unusable("its discovery document is another issuer's")
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        places = [found.get(name) for name in names]
        near = not secure(self.config.issuer, loopback=False)  # nobody from elsewhere sends us to our own machine
        urls = [place for place in places if isinstance(place, str) and secure(place, loopback=near)]
        if len(urls) != len(names):
            raise _unusable("its discovery document lacks an https address")
        return Endpoints(*urls)

    async def redeem(self, code: str, verifier: str, nonce: str) -> Mapping[str, Any]:
        """The claims about whoever a code was given for.

        Args:
            code: From the redirection.
            verifier: Whose digest the provider was told at the beginning (RFC 7636).
            nonce: That the token must hold.

        Raises:
            MeshError: REASON_CREDENTIAL_INVALID: the token is not one for us, now; REASON_SERVICE_UNAVAILABLE.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.config.redirect_uri,
            "client_id": self.config.client_id,
            "code_verifier": verifier,
        }
        secret = self.config.client_secret.get_secret_value()
        if secret:
            form["client_secret"] = secret
        answer = await self._ask((await self.endpoints()).token, form, {})
        if answer.get("error") == "invalid_grant":
            raise _refused("code")
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise _unusable(f"it gave no ID token: {str(answer.get('error', ''))[:64]!r}")
        return await self._claims(token, nonce)

    async def _claims(self, token: str, nonce: str) -> Mapping[str, Any]:
        claims = await self._signed(token)
        try:
            registry = jwt.JWTClaimsRegistry(
                now=int(self._now()),
                leeway=LEEWAY_SECONDS,
                iss={"essential": True, "value": self.config.issuer},
                aud={"essential": True, "value": self.config.client_id},
                sub={"essential": True},
                exp={"essential": True},
                iat={"essential": True},
            )
            registry.validate(dict(claims))
        except (JoseError, ValueError, TypeError) as error:
            raise _refused("claims") from error
        audience = claims["aud"]
        for_others = isinstance(audience, list) and len(audience) > 1
        if claims.get("azp", None if for_others else self.config.client_id) != self.config.client_id:
            raise _refused("azp")
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise _refused("nonce")
        if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 255:
            raise _refused("sub")
        return claims

    async def _signed(self, token: str) -> Mapping[str, Any]:
        """The claims of a token with a good signature; keys are looked for anew when none of the known ones fits."""
        keys = await self._known_keys()
        try:
            return self._decoded(token, keys)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            if self._clock() - self._keys_since < SELDOM_SECONDS:
                raise _refused("signature") from error
        try:
            return self._decoded(token, await self._known_keys(anew=True))
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise _refused("signature") from error

    def _decoded(self, token: str, keys: KeySet) -> Mapping[str, Any]:
        return jwt.decode(token, keys, algorithms=list(self.config.algorithms)).claims

    async def _known_keys(self, *, anew: bool = False) -> KeySet:
        if self._keys is None or anew or self._clock() - self._keys_since >= FRESH_SECONDS:
            found = (await self._ask((await self.endpoints()).keys, None, {})).get("keys")
            listed = found if isinstance(found, list) else []
            fit = [key for key in listed if isinstance(key, dict) and key.get("kty") in _KINDS]
            try:
                self._keys = KeySet.import_key_set({"keys": [key for key in fit if key.get("use", "sig") == "sig"]})
            except (JoseError, ValueError, TypeError, KeyError) as error:
                raise _unusable("its keys cannot be read") from error
            self._keys_since = self._clock()
        return self._keys


def _refused(what: str) -> MeshError:
    _log.info("identity provider's answer refused", what=what)
    return MeshError(errors_pb2.REASON_CREDENTIAL_INVALID, "the identity provider's answer is not valid: begin again")


def _unusable(what: str) -> MeshError:
    message = f"the identity provider cannot be used: {what}"
    return MeshError(errors_pb2.REASON_SERVICE_UNAVAILABLE, message, retry_after=5.0)
