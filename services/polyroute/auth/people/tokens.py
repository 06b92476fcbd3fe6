"""Access tokens: JSON Web Tokens (RFC 7519) that auth gives and auth reads, nobody else.

They say who and by which session, and nothing of what that person may do: that is asked at each call, so that a role
which was taken away, a session that was ended and a person who was shut out end with the token's very next use.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.pepper import write_once
from polyroute.mesh.errors import MeshError

ISSUER: Final = "polyroute"
AUDIENCE: Final = "polyroute-admin"
ALGORITHMS: Final = ("HS256",)
KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who a token was given to."""

    person_id: str
    session_id: str


class AccessTokens:
    """Gives and reads access tokens.

    Args:
        keys: Secrets, the one in use first; those that follow are still good for tokens given before.
        valid_for: Seconds that a token works.
        now: Wall clock, seconds since the Unix epoch.
    """

    def __init__(self, keys: Sequence[str], *, valid_for: float, now: Callable[[], float] = time.time) -> None:
        if not keys:
            raise ValueError("there is no key for access tokens")
        self._keys = KeySet([_key(secret) for secret in keys])
        self._kid = str(self._keys.keys[0].kid)
        self.valid_for = valid_for
        self._now = now
        names: tuple[str, ...] = ("iss", "aud", "sub", "sid", "iat", "exp")
        claims: dict[str, jwt.ClaimsOption] = {name: {"essential": True} for name in names}
        claims["iss"] = {"essential": True, "value": ISSUER}
        claims["aud"] = {"essential": True, "value": AUDIENCE}
        self._claims = claims

    def give(self, bearer: Bearer) -> str:
        """A token."""
        now = int(self._now())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": bearer.person_id,
            "sid": bearer.session_id,
            "iat": now,
            "exp": now + int(self.valid_for),
            "jti": secrets.token_urlsafe(12),
        }
        header = {"alg": ALGORITHMS[0], "typ": "at+jwt", "kid": self._kid}  # RFC 9068, 2.1
        return jwt.encode(header, claims, self._keys, algorithms=list(ALGORITHMS))

    def read(self, token: str) -> Bearer:
        """Who a token was given to.

        Raises:
            MeshError: REASON_CREDENTIAL_INVALID: not ours, or not any more.
        """
        try:
            read = jwt.decode(token, self._keys, algorithms=list(ALGORITHMS))
            now = int(self._now())
            jwt.JWTClaimsRegistry(now=now, leeway=0, **self._claims).validate(read.claims)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise _refused() from error
        if read.header.get("typ") != "at+jwt":
            raise _refused()
        return Bearer(str(read.claims["sub"]), str(read.claims["sid"]))


def load_or_create(path: Path) -> list[str]:
    """The secrets in `path`, one a line, the one in use first; one is made now when there is none.

    Raises:
        PepperError: Any user of the machine may read the file.
    """
    text = write_once(path, lambda: f"{secrets.token_hex(KEY_BYTES)}\n".encode()).decode()
    return [line.strip() for line in text.splitlines() if line.strip()]


def _key(secret: str) -> OctKey:
    kid = blake2b(secret.encode(), digest_size=6).hexdigest()
    return OctKey.import_key(bytes.fromhex(secret), {"kid": kid})


def _refused() -> MeshError:
    return MeshError(errors_pb2.REASON_CREDENTIAL_INVALID, "the access token is not valid")
