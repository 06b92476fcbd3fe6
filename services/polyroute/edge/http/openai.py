"""OpenAI's doors: chat completions, completions, embeddings."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing

import structlog

from polyroute.api.chat.v1.chat_pb2 import EncodedRequest, RequestFacts
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.dialects import openai_chat, openai_completions, openai_embeddings
from polyroute.edge.config import EdgeConfig
from polyroute.edge.flow import Call, Flow
from polyroute.edge.http.body import ClientGoneError, Receive, Scope, Send, headers_of, read_body
from polyroute.edge.http.connection import SCOPE_KEY
from polyroute.edge.http.exchange import Exchange
from polyroute.edge.trail import Trail
from polyroute.mesh import scope as scopes
from polyroute.mesh.errors import MeshError
from polyroute.mesh.scope import Scope as MeshScope

_log = structlog.get_logger("openai")


class OpenAiDoor:
    """Turns OpenAI-format requests into calls.

    Args:
        flow: The path of a call.
        config: Bounds.
    """

    def __init__(self, flow: Flow, config: EdgeConfig) -> None:
        self._flow = flow
        self._config = config

    async def chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/chat/completions."""
        await self._exchange(scope, receive, send, openai_chat.DIALECT.name, openai_chat.DIALECT.read_facts)

    async def completions(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/completions."""
        dialect = openai_completions.DIALECT
        await self._exchange(scope, receive, send, dialect.name, dialect.read_facts)

    async def embeddings(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/embeddings."""
        await self._exchange(
            scope, receive, send, "openai.embeddings", openai_embeddings.read_facts, answer=self._embed
        )

    async def _exchange(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        dialect: str,
        read_facts: Callable[[bytes], RequestFacts],
        answer: Callable[[Call, Exchange], object] | None = None,
    ) -> None:
        """One exchange from its first byte to its last; the boundary of everything that can go wrong on the way."""
        headers = headers_of(scope)
        trail = Trail(scopes.new_request_id())
        deadline = asyncio.get_running_loop().time() + _seconds(headers, self._config.total_seconds)
        trace = headers.get(scopes.TRACE) or scopes.new_traceparent()
        scopes.CURRENT.set(MeshScope(trail.request_id, trace, deadline))
        with Exchange(scope[SCOPE_KEY], headers, trail) as exchange:
            try:
                http = self._config.http
                body = await read_body(receive, headers, http.max_body_bytes, http.max_decompressed_bytes)
                facts = read_facts(body)
                encoded = EncodedRequest(dialect=dialect, body=body)
                call = Call(credential(headers), facts, encoded, deadline, trail)
                await (answer or self._generate)(call, exchange)  # type: ignore[misc] # both are coroutine functions
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

    async def _generate(self, call: Call, exchange: Exchange) -> None:
        if call.facts.stream:
            exchange.ping_every(self._config.http.ping_seconds)
        async with aclosing(self._flow.generate(call)) as responses:
            async for response in responses:
                pieces = [event.encoded.data for event in response.events if event.HasField("encoded")]
                data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                last = response.events[-1].HasField("finished")
                if not call.facts.stream:
                    exchange.whole(data)
                elif data or last:
                    await exchange.piece(data, last=last)

    async def _embed(self, call: Call, exchange: Exchange) -> None:
        response = await self._flow.embed(call)
        call.trail.handed_out()
        exchange.whole(response.encoded)


def credential(headers: Mapping[str, str]) -> str:
    """The key that a request presents, in any of the places where clients put it; empty when there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("api-key") or headers.get("x-api-key") or ""


def _seconds(headers: Mapping[str, str], most: float) -> float:
    """How long the call may take: the caller's own bound, in `x-polyroute-timeout` seconds, within ours."""
    try:
        wanted = float(headers.get("x-polyroute-timeout", ""))
    except ValueError:
        return most
    return min(most, wanted) if wanted > 0 else most
