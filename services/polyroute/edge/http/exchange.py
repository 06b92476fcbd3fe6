"""One HTTP exchange: who asks, what is sent back, and whether anything has been sent yet.

Before the first byte an error is an answer of its own; after it, it can only be said inside the stream. This is the one
place that knows which it is.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

from polyroute.edge.admission import figures_of_refusal
from polyroute.edge.errors import headers_of, shape_of
from polyroute.edge.explaining import beside
from polyroute.edge.http.connection import Headers
from polyroute.edge.http.manners import Manners
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
# `x-accel-buffering` tells nginx and its kind not to hold a stream back
_UNBUFFERED: Final = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
_JSON_HEADER: Final = (b"content-type", JSON.encode())
_CLIENT_ID: Final = "x-client-request-id"
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]{1,512}")
# Answers hold no cookies and keys are sent by the page itself, so any origin may read them.
ANY_ORIGIN: Final = (b"access-control-allow-origin", b"*")
_EXPOSED: Final = (ANY_ORIGIN, (b"access-control-expose-headers", b"*"))


class Outlet(Protocol):
    """Where an answer goes: a connection, or what stands before one. See `connection.Reply`."""

    @property
    def lost(self) -> bool:
        """Whether the client is gone."""

    def served_by(self, task: asyncio.Task[Any] | None) -> None:
        """Names the task that answers."""

    def served(self) -> None:
        """The current task has answered."""

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Writes a whole answer."""

    def open(self, status: int, headers: Headers) -> None:
        """Begins an answer that comes in pieces."""

    async def piece(self, data: bytes, *, last: bool) -> None:
        """Writes the next piece."""

    def cut(self) -> None:
        """Ends an answer that cannot be completed."""


class Exchange:
    """One request and its answer.

    Args:
        reply: Where the answer goes.
        headers: The request's headers.
        trail: What becomes known of the call.
        manners: What the door's clients expect besides content.
    """

    __slots__ = (
        "_first",
        "_headers",
        "_last",
        "_manners",
        "_pinger",
        "_reply",
        "_timer",
        "_trail",
        "events",
        "started",
    )

    def __init__(self, reply: Outlet, headers: Mapping[str, str], trail: Trail, manners: Manners) -> None:
        self._reply = reply
        self._headers = headers
        self._trail = trail
        self._manners = manners
        self._pinger: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._first = self._last = b""
        self.started = False
        self.events = True
        """A stream is one of events; otherwise of bytes, in which nothing can be said of an error."""

    @property
    def lost(self) -> bool:
        """Whether the client is gone."""
        return self._reply.lost

    def __enter__(self) -> "Exchange":
        self._reply.served_by(asyncio.current_task())
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_pinging()
        self._reply.served()

    def whole(self, body: bytes, status: int = 200, extra: Headers = (), content_type: str = JSON) -> None:
        """Sends a whole answer."""
        self.started = True
        kind = _JSON_HEADER if content_type is JSON else (b"content-type", _ascii(content_type))
        self._reply.whole(status, (kind, *self._about(), *extra), body)

    def replayed(self, status: int, content_type: str, body: bytes, request_id: str) -> None:
        """Sends what another call answered to the same request, word for word."""
        extra = ((b"idempotent-replayed", b"true"), (b"x-polyroute-original-request-id", _ascii(request_id)))
        self.whole(body, status, extra, content_type)

    async def piece(self, data: bytes, *, last: bool) -> None:
        """Sends the next piece of a stream of events; the first one opens it."""
        if self._timer is not None:
            await self._finish_ping()
        if not self.started:
            self.open(EVENT_STREAM, _UNBUFFERED)
        self._first, self._last = self._first or data, data
        await self._reply.piece(data + self._manners.end if last else data, last=last)

    def explained(self, data: bytes, told: bytes, *, stream: bool) -> bytes:
        """The last of an answer's content with an explanation beside it."""
        return data + self._manners.aside(told) if stream else beside(data, told)

    async def raw(self, data: bytes, *, last: bool) -> None:
        """Sends the next bytes of a stream that is not one of events, once `open` has begun it."""
        await self._reply.piece(data, last=last)

    def open(self, content_type: str, extra: Headers = (), status: int = 200) -> None:
        """Begins a stream."""
        self.started = True
        self.events = content_type is EVENT_STREAM
        self._reply.open(status, ((b"content-type", _ascii(content_type)), *extra, *self._about()))

    async def fail(self, error: MeshError) -> None:
        """Says that the call failed: as an answer of its own or, after the first byte, inside the stream."""
        await self._finish_ping()
        shape = shape_of(error)
        manners = self._manners
        if self.started and not self.events:
            self._reply.cut()
            return
        body = manners.error(error, shape, self._trail.request_id)
        if not self.started:
            limits = manners.limits(figures_of_refusal(error))
            self.whole(body, manners.status(shape), headers_of(error, shape) + limits)
            return
        # an in-band error and no end marker: clients would take a bare end for a complete answer
        await self._reply.piece(manners.broken(body, self._first, self._last), last=True)

    def ping_every(self, seconds: float) -> None:
        """Keeps the connection alive until the first piece."""
        loop = asyncio.get_running_loop()

        def due() -> None:
            self._pinger = loop.create_task(self._ping())
            self._timer = loop.call_later(seconds, due)

        self._timer = loop.call_later(seconds, due)

    async def _ping(self) -> None:
        if not self.started:
            self.open(EVENT_STREAM, _UNBUFFERED)
        await self._reply.piece(self._manners.ping, last=False)

    async def _finish_ping(self) -> None:
        self._stop_pinging()
        if self._pinger is not None:
            await self._pinger
            self._pinger = None

    def _stop_pinging(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _about(self) -> list[tuple[bytes, bytes]]:
        """Headers that say which call this is, who served it and what Polyroute added."""
        trail = self._trail
        headers = [(self._manners.id_header, trail.request_id.encode()), *self._manners.fixed]
        asked = self._headers
        if _CLIENT_ID in asked and _PRINTABLE.fullmatch(asked[_CLIENT_ID]):
            headers.append((b"x-client-request-id", asked[_CLIENT_ID].encode()))
        if "origin" in asked:
            headers += _EXPOSED
        limits: list[tuple[bytes, bytes]] = []
        if trail.admission is not None:
            limits = self._manners.limits(trail.admission.figures(trail.usage if trail.over else None))
        if trail.attempt is not None and trail.committed:
            headers += _served(trail, limited=bool(limits))
        return headers + limits


def _served(trail: Trail, *, limited: bool) -> list[tuple[bytes, bytes]]:
    attempt, decision, started = trail.attempt, trail.decision, trail.started
    assert attempt is not None  # noqa: S101 - the caller looked
    headers = [
        (b"x-polyroute-deployment", _ascii(attempt.deployment)),
        (b"x-polyroute-provider", _ascii(attempt.provider)),
        (b"x-polyroute-attempts", b"%d" % (len(trail.attempts) + (not trail.over))),
        (b"x-polyroute-overhead-ms", b"%.3f" % (trail.overhead * 1000)),
        (b"openai-processing-ms", b"%d" % (trail.first_token * 1000)),
    ]
    if decision is not None:
        headers.append((b"x-polyroute-model", _ascii(trail.model)))
        headers.append((b"x-polyroute-catalog", _ascii(decision.record.catalog_version)))
    if started is not None:
        if started.headers and not limited:  # the caller's own limits stand above those of the vendor's account
            headers += [(name.encode(), _ascii(value)) for name, value in started.headers.items()]
        if started.dropped:
            headers.append((b"x-polyroute-dropped", _ascii(",".join(started.dropped))))
    return headers


def _ascii(text: str) -> bytes:
    """A header's value: what is not printable ASCII is escaped, so that no name can break a header."""
    if text.isascii() and text.isprintable() and len(text) <= 512:
        return text.encode()
    return text.encode("unicode_escape")[:512]
