"""The door of administrators: `/admin/v1/*`, made of the contract's own paths (`polyroute.edge.admin.bindings`).

It is there for this machine only unless the operator says otherwise, no browser's page may read its answers, and wrong
credentials are counted.
"""

import ipaddress
import time
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

import orjson
import structlog
from starlette.responses import Response

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.admin import faults, preconditions
from polyroute.edge.admin.bindings import Binding, Found, anonymous
from polyroute.edge.admin.gateway import SECONDS, Administration
from polyroute.edge.admin.openapi import document
from polyroute.edge.admin.throttle import Throttle
from polyroute.edge.admin.transcoding import invalid, written
from polyroute.edge.http import browser
from polyroute.edge.http.access import Access, Declared
from polyroute.edge.http.body import ClientGoneError, Receive, Scope, Send, headers_of, read_body
from polyroute.edge.http.browser import Browser
from polyroute.mesh import scope as scopes
from polyroute.mesh.errors import MeshError
from polyroute.mesh.scope import Scope as MeshScope

PREFIX: Final = "/admin/v1"
DOCUMENT: Final = f"{PREFIX}/openapi.json"
MAX_BODY_BYTES: Final = 1024 * 1024  # a thousand keys to import; nothing else comes near
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_HEADERS: Final = {
    "cache-control": "no-store",
    "content-type": "application/json",
    "x-content-type-options": "nosniff",
}

_log = structlog.get_logger("admin")


class Reach(StrEnum):
    """For whom the door is there."""

    NOBODY = "nobody"
    MACHINE = "this machine"
    EVERYBODY = "everybody"

    @classmethod
    def of(cls, wanted: bool | None, host: str) -> "Reach":
        """What the operator wants; when nothing was said, this machine, if the door is open to no other.

        Args:
            wanted: The setting.
            host: The address that the door listens at.
        """
        if wanted is not None:
            return cls.EVERYBODY if wanted else cls.NOBODY
        return cls.MACHINE if _loopback(host) else cls.NOBODY


class AdminDoor:
    """Answers requests of administrators.

    Args:
        administration: What they may ask.
        reach: For whom it is there; for others there is nothing at its paths.
        clock: Seconds.
    """

    def __init__(
        self, administration: Administration, reach: Reach, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._administration = administration
        self._reach = reach
        self._browser = Browser(administration)
        self._throttle = Throttle(clock)
        self._document = orjson.dumps(document(administration.table.bindings))

    @property
    def declared(self) -> Iterator[Declared]:
        """Its paths, and who may use them."""
        for path in (DOCUMENT, browser.BEGIN, browser.CALLBACK):
            yield Declared("GET", path, Access.PUBLIC)
        for binding in self._administration.table.bindings:
            access = Access.PUBLIC if anonymous(binding.method) else Access.ADMIN
            yield Declared(binding.verb, binding.template, access)

    def takes(self, path: str) -> bool:
        """Whether a path is below this door, also when there is nothing at it."""
        return path == PREFIX or path.startswith(f"{PREFIX}/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry; the boundary of everything that can go wrong on the way."""
        request_id, headers = scopes.new_request_id(), headers_of(scope)
        deadline = time.monotonic() + SECONDS  # the loop's clock is this one
        trace = headers.get(scopes.TRACE) or scopes.new_traceparent()
        scopes.CURRENT.set(MeshScope(request_id, trace, deadline))
        try:
            response = await self._answer(scope, receive, headers)
        except ClientGoneError:
            return
        except MeshError as error:
            response = _refusal(error, request_id)
        except Exception:  # noqa: BLE001 - the boundary of an exchange: a bare 500, the text in the log
            _log.exception("administration failed", request_id=request_id)
            response = _refusal(MeshError(pb.REASON_INTERNAL, "internal error"), request_id)
        response.headers["x-request-id"] = request_id
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, headers: Mapping[str, str]) -> Response:
        verb, path = scope["method"], scope["raw_path"].decode("latin-1")
        if not self._served(scope, headers):
            raise _nothing(path)
        if path == DOCUMENT and verb == "GET":
            return Response(self._document, headers=_HEADERS)
        if self._browser.takes(path) and verb == "GET":
            return await self._browser.answer(path, scope["query_string"].decode("latin-1"), headers, _address(scope))
        found = self._find(verb, path)
        if found is None:
            return self._other_verbs(verb, path)
        credential = presented(headers)
        if not credential and not anonymous(found.binding.method):
            raise MeshError(pb.REASON_CREDENTIAL_MISSING, "send a credential as `authorization: bearer ...`")
        body = await read_body(receive, headers, MAX_BODY_BYTES, MAX_BODY_BYTES)
        request = self._administration.request(found, scope["query_string"].decode("latin-1"), body)
        expected = preconditions.expect(request, headers.get(preconditions.IF_MATCH, ""))
        try:
            answer = await self._asked(found.binding, request, credential, _address(scope))
        except MeshError as error:
            if not expected or error.reason != pb.REASON_CHANGED:
                raise
            return _refusal(error, _request_id(), preconditions.FAILED)
        return Response(written(answer), headers={**_HEADERS, **preconditions.told(answer)})

    async def _asked(self, binding: Binding, request: Any, credential: str, address: str) -> Any:
        """The answer to a request, whose credential is counted until it has proved good."""
        if anonymous(binding.method):  # what comes along with it is not looked at, and so proves nothing
            return await self._administration.ask(binding, request, "", address)
        with self._throttle.trying(address, credential):
            return await self._administration.ask(binding, request, credential, address)

    def _find(self, verb: str, path: str) -> Found | None:
        try:
            return self._administration.table.find(verb, path)
        except UnicodeDecodeError:
            raise invalid("the path", "is not UTF-8") from None

    def _other_verbs(self, verb: str, path: str) -> Response:
        """405 where another verb would do (RFC 9110, section 15.5.6)."""
        page = path == DOCUMENT or self._browser.takes(path)
        verbs = ["GET"] if page else self._administration.table.verbs(path)
        if not verbs:
            raise _nothing(path)
        error = MeshError(pb.REASON_INVALID_REQUEST, f"{verb} is not possible here")
        response = _refusal(error, _request_id(), 405)
        response.headers["allow"] = ", ".join(verbs)
        return response

    def _served(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        """Whether the door is there for whoever asks."""
        if self._reach is not Reach.MACHINE:
            return self._reach is Reach.EVERYBODY
        # what a proxy of this machine passes on comes from loopback, and may come from anywhere
        return _loopback(_address(scope)) and not forwarded(headers)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def forwarded(headers: Mapping[str, str]) -> bool:
    """Whether a proxy has passed a request on."""
    return any(name in headers for name in _FORWARDED)


def presented(headers: Mapping[str, str]) -> str:
    """What a caller presents: nowhere but in its one place, so that a key for models is not taken for it.

    Raises:
        MeshError: REASON_CREDENTIAL_INVALID, no credential looks like that.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    token = token.strip() if scheme.lower() == "bearer" else ""
    if token and not (token.isascii() and token.isprintable()):
        raise MeshError(pb.REASON_CREDENTIAL_INVALID, "the credential is not valid")
    return token


def _request_id() -> str:
    current = scopes.CURRENT.get()
    return current.request_id if current else ""


def _nothing(path: str) -> MeshError:
    return MeshError(pb.REASON_NOT_FOUND, f"there is nothing at {path[:256]}")


def _refusal(error: MeshError, request_id: str, status: int | None = None) -> Response:
    headers = {**_HEADERS, **faults.headers_of(error)}
    return Response(faults.body_of(error, request_id, status), status or faults.status_of(error), headers)
