"""One HTTP exchange: who asks, what is sent back, and whether anything has been sent yet.

Before the first byte an error is an answer of its own; after it, it can only be said inside the stream. This is the one
place that knows which it is.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Final

from polyroute.edge.errors import body_of, headers_of, shape_of
from polyroute.edge.http.connection import Headers, Reply
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError

JSON: Final = (b"content-type", b"application/json")
# `x-accel-buffering` tells nginx and its kind not to hold a stream back
EVENT_STREAM: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
PING: Final = b": keep-alive\n\n"
END: Final = b"data: [DONE]\n\n"
_CLIENT_ID: Final = "x-client-request-id"
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]{1,512}")
_VERSION: Final = (b"openai-version", b"2020-10-01")


class Exchange:
    """One request and its answer.

    Args:
        reply: Where the answer goes.
        headers: The request's headers.
        trail: What becomes known of the call.
    """

    __slots__ = ("_headers", "_pinger", "_reply", "_timer", "_trail", "started")

    def __init__(self, reply: Reply, headers: Mapping[str, str], trail: Trail) -> None:
        self._reply = reply
        self._headers = headers
        self._trail = trail
        self._pinger: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.started = False

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

    def whole(self, body: bytes, status: int = 200, extra: Headers = ()) -> None:
        """Sends a whole answer."""
        self.started = True
        self._reply.whole(status, (JSON, *self._about(), *extra), body)

    async def piece(self, data: bytes, *, last: bool) -> None:
        """Sends the next piece of a stream; the first one opens it."""
        if self._timer is not None:
            await self._finish_ping()
        if not self.started:
            self._open()
        await self._reply.piece(data + END if last else data, last=last)

    async def fail(self, error: MeshError) -> None:
        """Says that the call failed: as an answer of its own or, after the first byte, inside the stream."""
        await self._finish_ping()
        shape = shape_of(error)
        if not self.started:
            self.whole(body_of(error, shape), shape.status, headers_of(error, shape))
            return
        # an in-band error and no end marker: clients would take a bare end for a complete answer
        await self._reply.piece(b"data: " + body_of(error, shape) + b"\n\n", last=True)

    def ping_every(self, seconds: float) -> None:
        """Keeps the connection alive with comments until the first piece."""
        loop = asyncio.get_running_loop()

        def due() -> None:
            self._pinger = loop.create_task(self._ping())
            self._timer = loop.call_later(seconds, due)

        self._timer = loop.call_later(seconds, due)

    async def _ping(self) -> None:
        if not self.started:
            self._open()
        await self._reply.piece(PING, last=False)

    async def _finish_ping(self) -> None:
        self._stop_pinging()
        if self._pinger is not None:
            await self._pinger
            self._pinger = None

    def _stop_pinging(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _open(self) -> None:
        self.started = True
        self._reply.open(200, (*EVENT_STREAM, *self._about()))

    def _about(self) -> list[tuple[bytes, bytes]]:
        """Headers that say which call this is, who served it and what Polyroute added."""
        trail = self._trail
        headers = [(b"x-request-id", trail.request_id.encode()), _VERSION]
        client = self._headers.get(_CLIENT_ID, "")
        if _PRINTABLE.fullmatch(client):
            headers.append((b"x-client-request-id", client.encode()))
        if trail.attempt is not None and trail.committed:
            headers += _served(trail)
        return headers


def _served(trail: Trail) -> list[tuple[bytes, bytes]]:
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
        headers.append((b"x-polyroute-model", _ascii(decision.plan.model)))
        headers.append((b"x-polyroute-catalog", _ascii(decision.record.catalog_version)))
    if started is not None:
        headers += [(name.encode(), _ascii(value)) for name, value in started.headers.items()]
        if started.dropped:
            headers.append((b"x-polyroute-dropped", _ascii(",".join(started.dropped))))
    return headers


def _ascii(text: str) -> bytes:
    """A header's value: what is not printable ASCII is escaped, so that no name can break a header."""
    if _PRINTABLE.fullmatch(text):
        return text.encode()
    return text.encode("unicode_escape")[:512]
