"""Signing in with a browser: away to the identity provider, and back from it (OpenID Connect, authorization code).

What the browser has to bring back is in a cookie that only the way back sees: no script reads it, no other site's page
sends it, and it is sealed. The tokens are in the body of the answer at the end of that way, and in no address: what is
in an address is in histories, logs and `referer` headers.
"""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from starlette.responses import Response

from polyroute.api.auth.v1 import people_pb2
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.admin.gateway import Administration
from polyroute.edge.admin.transcoding import invalid, written
from polyroute.mesh.errors import MeshError

BEGIN: Final = "/admin/v1/oidc/{provider}/begin"
CALLBACK: Final = "/admin/v1/oidc/callback"
COOKIE: Final = "polyroute-oidc"
_AWAY: Final = re.compile(r"/admin/v1/oidc/([^/]+)/begin")
_WORD: Final = re.compile(r"[a-z_]{1,64}")  # an error as RFC 6749, section 4.1.2.1, has them
_PARAMETERS: Final = frozenset({"code", "state", "iss", "error"})
_HEADERS: Final = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}


class Browser:
    """The two pages of a sign-in.

    Args:
        administration: Where PeopleService is asked.
    """

    def __init__(self, administration: Administration) -> None:
        self._administration = administration

    def takes(self, path: str) -> bool:
        """Whether a path is one of them."""
        return path == CALLBACK or _AWAY.fullmatch(path) is not None

    async def answer(self, path: str, query: str, headers: Mapping[str, str], address: str) -> Response:
        """The answer to a GET.

        Args:
            path: One that `takes` takes, its escapes unopened.
            query: What follows it.
            headers: By their names in lower case.
            address: Where the browser is.

        Raises:
            MeshError: The sign-in fails, and why.
        """
        # a page of another site that only loads this, as an image or in a frame, is not somebody who goes here
        if headers.get("sec-fetch-mode", "navigate") != "navigate" or headers.get("sec-fetch-dest") == "iframe":
            raise MeshError(pb.REASON_NOT_PERMITTED, "open this address in a window of its own")
        away = _AWAY.fullmatch(path)
        if away is not None:
            return await self._begin(unquote(away[1]), address)
        return await self._finish(query, headers.get("cookie", ""), address)

    async def _begin(self, provider: str, address: str) -> Response:
        begun = await self._ask("BeginOidc", people_pb2.BeginOidcRequest(provider=provider), address)
        back = urlsplit(begun.redirect_uri)
        if not back.path.endswith(CALLBACK):
            raise invalid("redirect_uri", f"a browser can sign in here when the provider's ends in {CALLBACK}")
        attributes = [
            f"{COOKIE}={begun.state_cookie}",
            f"Path={back.path}",
            f"Max-Age={begun.valid_for.seconds}",
            "HttpOnly",
            "SameSite=Lax",  # the provider's redirection comes from another site
        ]
        if back.scheme == "https":  # else the operator's own machine: the configuration allows nothing else
            attributes.append("Secure")
        return Response(
            status_code=302, headers=_HEADERS | {"location": begun.url, "set-cookie": "; ".join(attributes)}
        )

    async def _finish(self, query: str, cookies: str, address: str) -> Response:
        brought = _parameters(query)
        if "error" in brought:
            word = brought["error"] if _WORD.fullmatch(brought["error"]) else "an error without a name"
            raise MeshError(pb.REASON_NOT_PERMITTED, f"the identity provider did not sign you in: {word}")
        request = people_pb2.FinishOidcRequest(
            code=brought.get("code", ""),
            state=brought.get("state", ""),
            state_cookie=_cookie(cookies),
            issuer=brought.get("iss", ""),
        )
        done = await self._ask("FinishOidc", request, address)
        spent = f"{COOKIE}=; Path={CALLBACK}; Max-Age=0; HttpOnly; SameSite=Lax"
        headers = _HEADERS | {"content-type": "application/json", "set-cookie": spent}
        return Response(written(done), headers=headers)

    async def _ask(self, method: str, request: Any, address: str) -> Any:
        return await self._administration.call(method, request, address)


def _parameters(query: str) -> Mapping[str, str]:
    """The parameters of a redirection that mean something here, each at most once (RFC 6749, section 3.1)."""
    try:
        pairs = [pair for pair in parse_qsl(query, errors="strict", max_num_fields=16) if pair[0] in _PARAMETERS]
    except ValueError:  # too many, or not UTF-8
        raise _again() from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise _again()
    return dict(pairs)


def _cookie(header: str) -> str:
    """The value of the one cookie of that name; of two, one is somebody else's."""
    pairs = (pair.strip().partition("=") for pair in header.split(";"))
    values = [value for name, _, value in pairs if name == COOKIE]
    if len(values) != 1:
        raise _again()
    return values[0]


def _again() -> MeshError:
    return MeshError(pb.REASON_CREDENTIAL_INVALID, "the sign-in is not valid: begin again")
