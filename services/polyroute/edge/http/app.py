"""The routes of the HTTP door. The hot ones are plain ASGI; the rest is Starlette's."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.http.access import Access, Declared, Page, declared
from polyroute.edge.http.admin import AdminDoor
from polyroute.edge.http.anthropic import AnthropicDoor
from polyroute.edge.http.body import Receive, Scope, Send
from polyroute.edge.http.door import Door
from polyroute.edge.http.gemini import METHODS, GeminiDoor
from polyroute.edge.http.openai import AZURE, OpenAiDoor
from polyroute.edge.http.origin import Origins
from polyroute.edge.http.pages import Pages, refusal
from polyroute.edge.http.relay import RelayDoor
from polyroute.edge.http.tasks import AZURE as AZURE_TASKS
from polyroute.edge.http.tasks import TasksDoor
from polyroute.edge.things import Things
from polyroute.mesh.errors import MeshError

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
PREFIX: Final = "/v1"
_GEMINI: Final = re.compile(rf"/(?:v1beta|v1)/models/(.+):({'|'.join(METHODS)})")
_AZURE: Final = re.compile(rf"/openai/deployments/([^/]+)({'|'.join((*AZURE, *AZURE_TASKS))})")
_AZURE_PREFIXES: Final = ("/openai/v1", "/openai")  # what its newer clients ask for, and its older where no model is
_NAMED: Final = (  # what these two stand for
    *(f"{prefix}/models/{{model}}:{method}" for method in METHODS for prefix in ("/v1beta", PREFIX)),
    *(f"/openai/deployments/{{model}}{rest}" for rest in (*AZURE, *AZURE_TASKS)),
)
_PREFLIGHT: Final = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, POST, DELETE",
    "access-control-max-age": "86400",
}


@dataclass(frozen=True)
class Doors:
    """The doors of all APIs.

    Args:
        openai: OpenAI's conversations and embeddings.
        anthropic: Anthropic's.
        gemini: Gemini's.
        tasks: Work other than conversation.
        relay: Vendors' own APIs.
    """

    openai: OpenAiDoor
    anthropic: AnthropicDoor
    gemini: GeminiDoor
    tasks: TasksDoor
    relay: RelayDoor

    @classmethod
    def of(cls, door: Door, things: Things | None = None) -> "Doors":
        """All of them over the same path of a call; see `RelayDoor` for `things`."""
        relay = RelayDoor(door, things)
        return cls(OpenAiDoor(door), AnthropicDoor(door), GeminiDoor(door), TasksDoor(door), relay)


class App:
    """The ASGI application: every path with and without `/v1`, with and without a slash at its end.

    Args:
        doors: For callers.
        pages: What is not hot.
        admin: For administrators.
        origins: Where requests come from that proxies pass on; None where no proxy is trusted.

    Raises:
        UndeclaredError: A path does not say who may use it.
    """

    def __init__(self, doors: Doors, pages: Pages, admin: AdminDoor, origins: Origins | None = None) -> None:
        self._origins = origins
        hot: dict[str, Handler] = {
            "/chat/completions": doors.openai.chat,
            "/completions": doors.openai.completions,
            "/embeddings": doors.openai.embeddings,
            "/responses": doors.openai.responses,
            "/responses/compact": doors.openai.compact,
            "/responses/input_tokens": doors.openai.input_tokens,
            "/messages": doors.anthropic.messages,
            "/messages/count_tokens": doors.anthropic.count_tokens,
            "/rerank": doors.tasks.rerank,
            "/images/generations": doors.tasks.images,
            "/images/edits": doors.tasks.images,
            "/images/variations": doors.tasks.images,
            "/audio/speech": doors.tasks.speech,
            "/audio/transcriptions": doors.tasks.transcriptions,
            "/audio/translations": doors.tasks.translations,
            "/moderations": doors.tasks.moderations,
        }
        prefixes = (PREFIX, "", *_AZURE_PREFIXES)
        self._hot = {prefix + path: handler for path, handler in hot.items() for prefix in prefixes}
        self._doors = doors
        self._pages = pages
        self._admin = admin
        self._rest = _starlette(pages)
        self.declared: Final[Sequence[Declared]] = (
            *(Declared("POST", path, Access.KEY) for path in (*self._hot, *_NAMED)),
            *doors.relay.declared,
            *admin.declared,
            *declared(self._rest.routes),
        )

    @property
    def draining(self) -> bool:
        """Whether the process is about to stop: connections end with the answers that are under way on them."""
        return self._pages.draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry."""
        if scope["type"] != "http":
            await self._rest(scope, receive, send)
            return
        if self._origins is not None:
            self._origins.tell(scope)
        handler = self._hot.get(scope["path"])
        if handler is not None and scope["method"] == "POST":
            await handler(scope, receive, send)
        else:
            await self._seldom(scope, receive, send)

    async def _seldom(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"].rstrip("/")
        if self._admin.takes(path):
            await self._admin(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            await _preflight(scope)(scope, receive, send)
        elif path in self._hot:
            if scope["method"] == "POST":
                await self._hot[path](scope, receive, send)
            elif (b"upgrade", b"websocket") in scope["headers"]:
                await _no_upgrade()(scope, receive, send)
            else:
                await _not_possible(scope["method"], "POST")(scope, receive, send)
        elif scope["method"] == "POST" and (found := _GEMINI.fullmatch(path)):
            await self._doors.gemini.models(scope, receive, send, unquote(found[1]), found[2])
        elif scope["method"] == "POST" and (found := _AZURE.fullmatch(path)):
            if found[2] in AZURE_TASKS:
                await self._doors.tasks.azure(scope, receive, unquote(found[1]), found[2])
            else:
                await self._doors.openai.azure(scope, receive, send, unquote(found[1]), found[2])
        elif self._doors.relay.takes(scope):
            await self._doors.relay.relay(scope, receive, send)
        else:
            await self._rest(scope, receive, send)


def _starlette(pages: Pages) -> Starlette:
    routes = [
        Page("/", pages.root, Access.PUBLIC),
        Page("/health/live", pages.live, Access.PUBLIC),
        Page("/health/ready", pages.ready, Access.PUBLIC),
        Page("/metrics", pages.metrics, Access.PUBLIC),
        Page("/openapi.json", pages.openapi, Access.PUBLIC),
        Page("/v1beta/models", pages.gemini_models, Access.KEY),
        Page("/v1beta/models/{id:path}", pages.gemini_models, Access.KEY),
    ]
    for prefix in (PREFIX, "", *_AZURE_PREFIXES):
        routes.append(Page(f"{prefix}/models", pages.models, Access.KEY))
        routes.append(Page(f"{prefix}/models/{{id:path}}", pages.models, Access.KEY))
    for prefix in (PREFIX, ""):
        routes.append(Page(f"{prefix}/dashboard/billing/subscription", pages.subscription, Access.KEY))
        routes.append(Page(f"{prefix}/dashboard/billing/usage", pages.usage, Access.KEY))
    handlers = {404: _no_such_path, 405: _wrong_method}
    return Starlette(routes=routes, exception_handlers=handlers)


async def _no_such_path(request: Request, error: Exception) -> Response:
    return refusal(MeshError(pb.REASON_NOT_FOUND, f"there is nothing at {request.scope['path'][:256]}"))


async def _wrong_method(request: Request, error: Exception) -> Response:
    headers = error.headers if isinstance(error, HTTPException) else None
    return _not_possible(request.method, (headers or {}).get("Allow", ""))


def _not_possible(method: str, allowed: str) -> Response:
    """405, which must name the methods that are possible (RFC 9110, section 15.5.6)."""
    response = refusal(MeshError(pb.REASON_INVALID_REQUEST, f"{method} is not possible here"))
    response.status_code = 405
    response.headers["allow"] = allowed
    return response


def _no_upgrade() -> Response:
    """426, at which clients that would rather have a socket (Codex) take to POST at once; after 404 and 405 they retry.

    RFC 9110, section 15.5.22, wants the protocol named that will do.
    """
    response = refusal(MeshError(pb.REASON_INVALID_REQUEST, "there are no sockets here, only POST"))
    response.status_code = 426
    response.headers.update({"upgrade": "HTTP/1.1", "connection": "close"})
    return response


def _preflight(scope: Scope) -> Response:
    """What a browser asks before it lets a page call (https://fetch.spec.whatwg.org/#cors-preflight-fetch)."""
    headers = dict(_PREFLIGHT)
    for name, value in scope["headers"]:
        if name == b"access-control-request-headers":  # a wildcard there would not include `authorization`
            headers["access-control-allow-headers"] = value.decode("latin-1")
    return Response(status_code=204, headers=headers)
