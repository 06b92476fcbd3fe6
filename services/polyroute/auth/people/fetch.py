"""Asks identity providers: a small HTTP client that trusts nothing about the answer.

An address comes from the operator's settings or from the discovery document of the issuer that they name, never from a
caller. No redirection is followed: an issuer that could send this process elsewhere could send it to what only this
machine can reach.
"""

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from http.client import HTTPException
from typing import Any, Final, NoReturn
from urllib.parse import urlencode

import orjson

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.people.config import secure
from polyroute.mesh.errors import MeshError

SECONDS: Final = 5.0  # for a whole answer
MAX_BYTES: Final = 512 * 1024
_TOLD: Final = frozenset({400, 401})  # the statuses of answers that say what is wrong with a form
_PIECE: Final = 16 * 1024

# Asks for a JSON object: address, form to post (None for GET), headers.
Ask = Callable[[str, Mapping[str, str] | None, Mapping[str, str]], Awaitable[Mapping[str, Any]]]


class _Still(urllib.request.HTTPRedirectHandler):
    """Follows no redirection."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: the answer is taken as it is, an error."""
        return


async def ask(url: str, form: Mapping[str, str] | None, headers: Mapping[str, str]) -> Mapping[str, Any]:
    """The JSON object at an address; what is posted may also be answered by an error (RFC 6749, section 5.2).

    Args:
        url: Where; https, or this machine.
        form: What is posted; None asks by GET.
        headers: Sent with it.

    Raises:
        MeshError: REASON_SERVICE_UNAVAILABLE: no answer in time, too large a one, or not an object.
    """
    if not secure(url):
        raise _unavailable("its address is not https")
    return await asyncio.to_thread(_asked, url, form, headers)


def _asked(url: str, form: Mapping[str, str] | None, headers: Mapping[str, str]) -> Mapping[str, Any]:
    body = urlencode(form).encode() if form is not None else None
    request = urllib.request.Request(url, body, {"accept": "application/json", **headers})  # noqa: S310 - see `ask`
    opener = urllib.request.build_opener(_Still)
    ends = time.monotonic() + SECONDS
    try:
        with opener.open(request, timeout=SECONDS) as answer:
            content = _read(answer, ends)
    except urllib.error.HTTPError as error:
        with error:
            if form is None or error.code not in _TOLD:
                _raise(f"it answered {error.code}", error)
            content = _read(error, ends)
    except (OSError, HTTPException, ValueError) as error:
        _raise("it does not answer", error)
    try:
        tree = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        _raise("its answer is not JSON", error)
    if not isinstance(tree, dict):
        raise _unavailable("its answer is not an object")
    return tree


def _read(answer: Any, ends: float) -> bytes:
    content = b""
    while piece := answer.read1(_PIECE):
        content += piece
        if len(content) > MAX_BYTES:
            raise _unavailable("its answer is too large")
        if time.monotonic() > ends:
            raise _unavailable("its answer takes too long")
    return content


def _raise(what: str, error: Exception) -> NoReturn:
    raise _unavailable(what) from error


def _unavailable(what: str) -> MeshError:
    message = f"the identity provider cannot be used: {what}"
    return MeshError(errors_pb2.REASON_SERVICE_UNAVAILABLE, message, retry_after=5.0)
