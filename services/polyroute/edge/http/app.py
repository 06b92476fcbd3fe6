"""The routes of the HTTP door. The hot ones are plain ASGI; the rest is Starlette's."""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.http.body import Receive, Scope, Send
from polyroute.edge.http.openai import OpenAiDoor
from polyroute.edge.http.pages import Pages, refusal
from polyroute.mesh.errors import MeshError

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
PREFIX: Final = "/v1"


class App:
    """The ASGI application: every path with and without `/v1`."""

    def __init__(self, openai: OpenAiDoor, pages: Pages) -> None:
        hot: dict[str, Handler] = {
            "/chat/completions": openai.chat,
            "/completions": openai.completions,
            "/embeddings": openai.embeddings,
        }
        self._hot = {prefix + path: handler for path, handler in hot.items() for prefix in (PREFIX, "")}
        self._rest = _starlette(pages)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry."""
        handler = self._hot.get(scope["path"]) if scope["type"] == "http" else None
        if handler is None:
            await self._rest(scope, receive, send)
        elif scope["method"] == "POST":
            await handler(scope, receive, send)
        else:
            await _not_possible(scope["method"], "POST")(scope, receive, send)


def _starlette(pages: Pages) -> Starlette:
    routes = [
        Route("/", pages.root),
        Route("/health/live", pages.live),
        Route("/health/ready", pages.ready),
        Route("/metrics", pages.metrics),
        Route("/openapi.json", pages.openapi),
    ]
    for prefix in (PREFIX, ""):
        routes.append(Route(f"{prefix}/models", pages.models))
        routes.append(Route(f"{prefix}/models/{{id:path}}", pages.models))
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
