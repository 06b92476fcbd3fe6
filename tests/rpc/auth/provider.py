"""A small OpenID Connect provider on loopback, and the ways in which one may go wrong."""

import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

Forge = Callable[[dict[str, Any]], str]
"""Makes the token of claims."""


@dataclass
class Provider:
    """What the provider knows, and how it misbehaves.

    Attributes:
        claims: Of whoever signs in, over the usual ones.
        forge: Makes tokens instead of the provider; None for a good one.
        asked: How often for what.
    """

    url: str = ""
    client_id: str = "polyroute-test"
    claims: dict[str, Any] = field(default_factory=dict)
    forge: Forge | None = None
    issuer: str = ""
    asked: dict[str, int] = field(default_factory=dict)
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "one", "use": "sig"}))
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    large: bool = False

    def consent(self, url: str) -> dict[str, str]:
        """What the browser brings back after somebody said yes at `url`."""
        parameters = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        code = f"code-{len(self.codes)}"
        self.codes[code] = parameters
        return {"code": code, "state": parameters["state"]}

    def signed(self, claims: dict[str, Any]) -> str:
        """A token of this provider."""
        return jwt.encode({"alg": "ES256", "kid": self.key.kid}, claims, self.key)

    async def discovery(self, _: web.Request) -> web.Response:
        """The discovery document."""
        self._count("discovery")
        document = {
            "issuer": self.issuer or self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        }
        if self.large:
            document["padding"] = "x" * 1_000_000
        return web.json_response(document)

    async def keys(self, _: web.Request) -> web.Response:
        """The public keys, one of which nobody can use."""
        self._count("keys")
        keys = [self.key.as_dict(private=False), {"kty": "oct", "k": "c2VjcmV0", "kid": "oct"}]
        return web.json_response({"keys": keys})

    async def token(self, request: web.Request) -> web.Response:
        """A token for a code and the verifier that belongs to its challenge."""
        form = await request.post()
        begun = self.codes.pop(str(form.get("code")), None)
        digest = sha256(str(form.get("code_verifier")).encode()).digest()
        challenge = urlsafe_b64encode(digest).rstrip(b"=").decode()
        if begun is None or begun["code_challenge"] != challenge or begun["redirect_uri"] != form.get("redirect_uri"):
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": self.client_id,
            "sub": "sub-1",
            "iat": now,
            "exp": now + 60,
            "nonce": begun["nonce"],
            "email": "ann@example.com",
            "email_verified": True,
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return web.json_response({"id_token": (self.forge or self.signed)(claims), "access_token": "opaque"})

    def _count(self, what: str) -> None:
        self.asked[what] = self.asked.get(what, 0) + 1


def coded(part: dict[str, Any]) -> str:
    """A part of a token."""
    return urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def unsigned(claims: dict[str, Any]) -> str:
    """A token that nobody signed."""
    return f"{coded({'alg': 'none'})}.{coded(claims)}."


def with_public_key_as_secret(provider: Provider) -> Forge:
    """A token signed by HMAC with what everybody can read."""
    secret = provider.key.as_pem(private=False)

    def forge(claims: dict[str, Any]) -> str:
        signed = f"{coded({'alg': 'HS256', 'kid': 'one'})}.{coded(claims)}"
        signature = hmac.new(secret, signed.encode(), "sha256").digest()
        return f"{signed}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"

    return forge


def by_somebody_else(claims: dict[str, Any]) -> str:
    """A good token, of another key under the same name, which it brings along."""
    other = ECKey.generate_key("P-256", {"kid": "one"})
    header = {"alg": "ES256", "kid": "one", "jwk": other.as_dict(private=False)}
    return jwt.encode(header, claims, other)


def by_an_algorithm_nobody_allowed(claims: dict[str, Any]) -> str:
    """A token by RSA, from an unknown key."""
    return jwt.encode({"alg": "RS512"}, claims, RSAKey.generate_key(2048), algorithms=["RS512"])


@asynccontextmanager
async def serving() -> AsyncGenerator[Provider]:
    """The provider, while the body runs."""
    provider = Provider()
    app = web.Application()
    app.add_routes(
        [
            web.get("/.well-known/openid-configuration", provider.discovery),
            web.get("/keys", provider.keys),
            web.post("/token", provider.token),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    provider.url = f"http://127.0.0.1:{port}"
    try:
        yield provider
    finally:
        await runner.cleanup()
