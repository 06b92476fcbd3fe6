"""What every HTTP door does: reads a request, makes a call of it, hands the answer on, and says what went wrong.

A door of one API (`openai.py`, `anthropic.py`, ...) says which bytes it reads and in which manners it answers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog

from polyroute.api.chat.v1.chat_pb2 import EncodedRequest, RequestFacts
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.router.v1.router_pb2 import Preferences
from polyroute.edge.config import EdgeConfig
from polyroute.edge.explaining import explained
from polyroute.edge.flow import Call, Flow
from polyroute.edge.http.body import ClientGoneError, Receive, Scope, headers_of, read_body
from polyroute.edge.http.connection import SCOPE_KEY
from polyroute.edge.http.exchange import Exchange
from polyroute.edge.http.manners import Manners
from polyroute.edge.trail import Trail
from polyroute.edge.wishes import Wishes, hints, taken
from polyroute.mesh import scope as scopes
from polyroute.mesh.errors import MeshError
from polyroute.mesh.scope import Scope as MeshScope

_log = structlog.get_logger("door")


@dataclass(slots=True)
class Asked:
    """A request whose body is here.

    Attributes:
        scope: ASGI's.
        headers: By lower-case name.
        body: Opened, within its bounds, without what it said to Polyroute itself.
        preferences: What it said; None when it said nothing.
        model: The model to assume when the body names none.
        deadline: Loop time at which the call must be over.
        trail: What becomes known of the call.
        exchange: Where the answer goes.
    """

    scope: Scope
    headers: Mapping[str, str]
    body: bytes
    preferences: Preferences | None
    model: str
    deadline: float
    trail: Trail
    exchange: Exchange

    @property
    def content_type(self) -> str:
        """The body's media type with its parameters; JSON when the client does not say."""
        return self.headers.get("content-type", "application/json")

    @property
    def source(self) -> str:
        """The address that the request comes from; empty when unknown."""
        client = self.scope.get("client")
        return client[0] if client else ""

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; of a repeated one the last counts."""
        return dict(parse_qsl(self.scope.get("query_string", b"").decode("latin-1")))


SESSION: Final = "x-polyroute-session"
SESSION_CHARS: Final = 256
EXPLAIN: Final = "x-polyroute-explain"
Work = Callable[[Asked], Awaitable[None]]
Facts = Callable[[bytes], RequestFacts]


class Door:
    """Takes exchanges from their first byte to their last.

    Args:
        flow: The path of a call.
        config: Bounds.
    """

    def __init__(self, flow: Flow, config: EdgeConfig) -> None:
        self.flow = flow
        self._config = config

    async def exchange(self, scope: Scope, receive: Receive, manners: Manners, work: Work) -> None:
        """One exchange; the boundary of everything that can go wrong on the way."""
        headers = headers_of(scope)
        trail = Trail(scopes.new_request_id())
        deadline = asyncio.get_running_loop().time() + _seconds(headers, self._config.total_seconds)
        trace = headers.get(scopes.TRACE) or scopes.new_traceparent()
        scopes.CURRENT.set(MeshScope(trail.request_id, trace, deadline))
        with Exchange(scope[SCOPE_KEY], headers, trail, manners) as exchange:
            try:
                http = self._config.http
                body = await read_body(receive, headers, http.max_body_bytes, http.max_decompressed_bytes)
                form = headers.get("content-type", "").startswith("multipart/")
                wishes = Wishes(body) if form else taken(body)
                await work(Asked(scope, headers, *wishes, deadline, trail, exchange))
            except MeshError as error:
                await exchange.fail(error)
            except ClientGoneError:
                return
            except asyncio.CancelledError:
                if exchange.lost:
                    return
                await exchange.fail(MeshError(pb.REASON_OVERLOADED, "the gateway is stopping", retry_after=1.0))
            except Exception:  # noqa: BLE001 - the boundary of an exchange: a bare 500, the text in the log
                _log.exception("exchange failed", request_id=trail.request_id)
                await exchange.fail(MeshError(pb.REASON_INTERNAL, "internal error"))

    def call(
        self, asked: Asked, dialect: str, facts: RequestFacts, forwarded: frozenset[str] = frozenset(), kind: str = ""
    ) -> Call:
        """The call that a request makes.

        Args:
            asked: The request.
            dialect: Of its body.
            facts: What was read from it.
            forwarded: Names of headers that a vendor of the same dialect may see.
            kind: The body's media type when it is not JSON.
        """
        encoded = EncodedRequest(dialect=dialect, body=asked.body, content_type=kind)
        call = Call(credential(asked.headers), facts, encoded, asked.deadline, asked.trail)
        if asked.preferences is not None:
            call.preferences = asked.preferences
            facts.require_parameters = asked.preferences.require_parameters
        call.hints = hints(asked.body, facts)
        call.route, call.source = asked.scope["path"], asked.source
        call.session = asked.headers.get(SESSION, "")[:SESSION_CHARS]
        call.explain = asked.headers.get(EXPLAIN, "").lower() == "true"
        if forwarded:
            call.headers = {name: asked.headers[name] for name in forwarded if name in asked.headers}
        return call

    async def generate(self, call: Call, exchange: Exchange, touch: Callable[[bytes], bytes] | None = None) -> None:
        """Answers by ProvidersService.Generate: a stream of events where one was asked for, a whole body otherwise.

        Args:
            call: What is asked.
            exchange: Where the answer goes.
            touch: Changes content on its way to the client.
        """
        if call.facts.stream:
            exchange.ping_every(self._config.http.ping_seconds)
        async with aclosing(self.flow.generate(call)) as responses:
            async for response in responses:
                data, kind = _content(response)
                last = response.events[-1].HasField("finished")
                if touch is not None:
                    data = touch(data)
                if call.explain and last:
                    data = exchange.explained(data, explained(call.trail), stream=call.facts.stream)
                if not call.facts.stream:
                    exchange.whole(data, content_type=kind) if kind else exchange.whole(data)
                elif data or last:
                    await exchange.piece(data, last=last)

    async def sound(self, call: Call, exchange: Exchange) -> None:
        """Answers with bytes that are no events, as they come."""
        async with aclosing(self.flow.generate(call)) as responses:
            async for response in responses:
                data, kind = _content(response)
                if not exchange.started:
                    exchange.open(kind or "application/octet-stream")
                await exchange.raw(data, last=response.events[-1].HasField("finished"))

    async def embed(self, call: Call, exchange: Exchange) -> None:
        """Answers with vectors."""
        response = await self.flow.embed(call)
        call.trail.handed_out()
        exchange.whole(response.encoded)


def _content(response: Any) -> tuple[bytes, str]:
    """The bytes for the client in a message, and their media type where it says one."""
    pieces = [event.encoded for event in response.events if event.HasField("encoded")]
    if len(pieces) == 1:
        return pieces[0].data, pieces[0].content_type
    kind = next((piece.content_type for piece in pieces if piece.content_type), "")
    return b"".join([piece.data for piece in pieces]), kind


def credential(headers: Mapping[str, str]) -> str:
    """The key that a request presents, in any of the places where clients put it; empty when there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("api-key") or headers.get("x-api-key") or headers.get("x-goog-api-key") or ""


def _seconds(headers: Mapping[str, str], most: float) -> float:
    """How long the call may take: the caller's own bound, in `x-polyroute-timeout` seconds, within ours."""
    wanted = headers.get("x-polyroute-timeout")
    if wanted is None:
        return most
    try:
        seconds = float(wanted)
    except ValueError:
        return most
    return min(most, seconds) if seconds > 0 else most
