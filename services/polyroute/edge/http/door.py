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
from polyroute.dialects.multipart import is_form
from polyroute.dialects.task import JSON, Body
from polyroute.edge import attribution
from polyroute.edge.call import Call
from polyroute.edge.config import EdgeConfig
from polyroute.edge.explaining import explained
from polyroute.edge.flow import Flow
from polyroute.edge.http.body import ClientGoneError, Receive, Scope, headers_of, read_body, sends_much
from polyroute.edge.http.connection import SCOPE_KEY
from polyroute.edge.http.exchange import Exchange
from polyroute.edge.http.manners import Manners
from polyroute.edge.idempotency.claims import Claim, Kept
from polyroute.edge.idempotency.once import Once, counts
from polyroute.edge.idempotency.request import HEADER as IDEMPOTENCY_KEY
from polyroute.edge.idempotency.request import content_of
from polyroute.edge.idempotency.tape import Tape
from polyroute.edge.trail import Trail
from polyroute.edge.turnstile import HEADER as CRITICALITY
from polyroute.edge.wishes import URGENCY, hints, taken, taken_of_form
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
        return self.headers.get("content-type", JSON)

    @property
    def credential(self) -> str:
        """The key that is presented; empty when there is none."""
        return _presented(self.scope, self.headers)

    @property
    def source(self) -> str:
        """The address that the request comes from; empty when unknown."""
        return _source(self.scope)

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; of a repeated one the last counts."""
        return _query(self.scope)


SESSION: Final = "x-polyroute-session"
WEBUI_CHAT: Final = "x-openwebui-chat-id"
SESSION_CHARS: Final = 256
EXPLAIN: Final = "x-polyroute-explain"
POLICY: Final = "x-polyroute-policy"
TIMEOUT: Final = "x-polyroute-timeout"
Work = Callable[[Asked], Awaitable[None]]
Facts = Callable[[bytes], RequestFacts]


class Door:
    """Takes exchanges from their first byte to their last.

    Args:
        flow: The path of a call.
        config: Bounds.
        once: Calls that name an idempotency key.
    """

    def __init__(self, flow: Flow, config: EdgeConfig, once: Once) -> None:
        self.flow = flow
        self._config = config
        self._once = once

    async def exchange(self, scope: Scope, receive: Receive, manners: Manners, work: Work) -> None:
        """One exchange; the boundary of everything that can go wrong on the way."""
        headers = headers_of(scope)
        trail = Trail(scopes.new_request_id())
        deadline = asyncio.get_running_loop().time() + _seconds(headers, self._config.total_seconds)
        trace = headers.get(scopes.TRACE) or scopes.new_traceparent()
        scopes.CURRENT.set(MeshScope(trail.request_id, trace, deadline))
        with Exchange(scope[SCOPE_KEY], headers, trail, manners) as exchange:

            async def served() -> None:
                attribution.from_headers(trail, headers)
                http = self._config.http
                if sends_much(headers):  # memory is for those who have a key
                    await self.flow.caller(_presented(scope, headers), _source(scope))
                body = await read_body(receive, headers, http.max_body_bytes, http.max_decompressed_bytes)
                kind, said = headers.get("content-type", JSON), headers
                if is_form(kind):
                    wishes, rest = taken_of_form(Body(body, kind))
                    said = {**headers, "content-type": rest}
                else:
                    wishes = taken(body)
                asked = Asked(scope, said, *wishes, deadline, trail, exchange)
                if IDEMPOTENCY_KEY in headers:
                    await self._served_once(asked, Body(body, kind), manners, work)
                else:
                    await work(asked)

            await _bounded(exchange, trail, served())

    async def _served_once(self, asked: Asked, body: Body, manners: Manners, work: Work) -> None:
        """Answers a request that names a key: as the call with that key was answered, or by making it."""
        scope, trail, once = asked.scope, asked.trail, self._once
        found = await once.begin(
            asked.credential,
            method=scope["method"],
            path=scope["path"],
            source=asked.source,
            key=asked.headers[IDEMPOTENCY_KEY],
            content=content_of(body.data, body.content_type, scope.get("query_string", b"")),
            request_id=trail.request_id,
        )
        if isinstance(found, Kept):
            asked.exchange.replayed(found.status, found.content_type, found.body, found.request_id)
            return
        reply = scope[SCOPE_KEY]
        await once.finished(self._taped(asked, found, Tape(reply, manners.ping), manners, work), lambda: reply.lost)

    async def _taped(self, asked: Asked, claim: Claim, tape: Tape, manners: Manners, work: Work) -> None:
        """Makes a call and keeps its answer before the client has its end: whoever has the answer can have it again."""
        trail = asked.trail
        try:
            with Exchange(tape, asked.headers, trail, manners) as asked.exchange:
                error = await _bounded(asked.exchange, trail, work(asked))
            made = counts(error, tried=bool(trail.attempts), committed=trail.committed, status=tape.status)
            body = tape.body
            kept = None if body is None else Kept(claim.request_id, tape.status, tape.content_type, body)
            await self._once.claims.settle(claim, kept, made=made)
        finally:
            await tape.release()

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
        if not kind:
            attribution.from_body(asked.trail, asked.body)
        encoded = EncodedRequest(dialect=dialect, body=asked.body, content_type=kind)
        call = Call(credential(asked.headers), facts, encoded, asked.deadline, asked.trail, raw=asked.body)
        if asked.preferences is not None:
            call.preferences = asked.preferences
            facts.require_parameters = asked.preferences.require_parameters
        call.hints = hints(asked.body, facts, asked.headers.get(URGENCY, ""))
        call.policy = asked.headers.get(POLICY, "")
        call.hurried = TIMEOUT in asked.headers
        call.route, call.source = asked.scope["path"], asked.source
        call.session = (asked.headers.get(SESSION) or asked.headers.get(WEBUI_CHAT, ""))[:SESSION_CHARS]
        call.explain = asked.headers.get(EXPLAIN, "").lower() == "true"
        call.criticality = asked.headers.get(CRITICALITY, "")
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


async def _bounded(exchange: Exchange, trail: Trail, work: Awaitable[None]) -> MeshError | None:
    """Does the work of an exchange and says what went wrong, to the client and to whoever asks."""
    try:
        await work
    except MeshError as error:
        failure = error
    except ClientGoneError:
        return None
    except asyncio.CancelledError:
        failure = MeshError(pb.REASON_DRAINING, "the gateway is stopping", retry_after=1.0)
        if exchange.lost:
            return failure
    except Exception:  # noqa: BLE001 - the boundary of an exchange: a bare 500, the text in the log
        _log.exception("exchange failed", request_id=trail.request_id)
        failure = MeshError(pb.REASON_INTERNAL, "internal error")
    else:
        return None
    await exchange.fail(failure)
    return failure


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


def _presented(scope: Scope, headers: Mapping[str, str]) -> str:
    """The key of a request, which Gemini's clients may send in the query."""
    return credential(headers) or _query(scope).get("key", "")


def _query(scope: Scope) -> dict[str, str]:
    return dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))


def _source(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _seconds(headers: Mapping[str, str], most: float) -> float:
    """How long the call may take: the caller's own bound, in `x-polyroute-timeout` seconds, within ours."""
    wanted = headers.get(TIMEOUT)
    if wanted is None:
        return most
    try:
        seconds = float(wanted)
    except ValueError:
        return most
    return min(most, seconds) if seconds > 0 else most
