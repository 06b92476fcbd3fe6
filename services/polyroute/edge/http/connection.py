"""The connection under the HTTP door, with bounds that the server itself does not have.

uvicorn bounds neither a connection that says nothing, nor headers or a body that drip, nor a reader that stops. Here
each has a deadline, and an end of the connection cancels the request that is being answered on it, at once. Answers of
the hot doors are written here as well: head and body in one write, without the checks that ASGI's `send` repeats for
headers that only this program makes.
"""

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

SEND_BUFFER: Final = 128 * 1024  # bytes in the kernel; the default grows to megabytes for a reader that stopped
GATHERED: Final = 1024 * 1024  # bytes of a body that wait for its end; the server hands on and pauses at each 64 KiB
JOINED: Final = 64 * 1024  # bytes up to which one copy is cheaper than a second write
MOST_HEADERS: Final = 1000  # of one request; each costs far more memory than its bytes
SCOPE_KEY: Final = "polyroute.reply"

Headers = Iterable[tuple[bytes, bytes]]


class _TooLargeError(Exception):
    """Ends the parsing of a request that was refused."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long and how large, in seconds and bytes."""

    header_seconds: float
    body_seconds: float
    stall_seconds: float
    header_bytes: int


class BoundedConnection(HttpToolsProtocol):
    """One client's connection. Subclassed with its bounds by `bounded`."""

    bounds: Bounds

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn's own signature
        """The client has connected, and has `header_seconds` to send a request."""
        super().connection_made(transport)
        found: socket.socket | None = transport.get_extra_info("socket")
        if found is not None and found.family in (socket.AF_INET, socket.AF_INET6):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._header_bytes = 0  # since the last headers or piece of a body
        self._fed = 0  # bytes of the latest read
        self._in_headers = False
        self._in_body = False
        self.serving: asyncio.Task[Any] | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._receiving: asyncio.TimerHandle | None = self.loop.call_later(self.bounds.header_seconds, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: whatever is being answered here is cancelled."""
        self._clear()
        if self._stalled is not None:
            self._stalled.cancel()
        self._unset_keepalive_if_required()  # or its timer keeps all of this in memory until it is due
        super().connection_lost(exc)
        if self.serving is not None:
            self.serving.cancel()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        self._fed = len(data)
        self._header_bytes += self._fed
        super().data_received(data)
        # of a body that brings nothing, too: behind it stand trailers, which a parser keeps until they end
        if (self._in_headers or self._in_body) and self._header_bytes > self.bounds.header_bytes:
            self._refuse(431)
        elif self._in_headers or self._in_body or self._idle:
            if self._receiving is None and not self.transport.is_closing():
                seconds = self.bounds.body_seconds if self._in_body else self.bounds.header_seconds
                self._receiving = self.loop.call_later(seconds, self._too_slow)
        elif self._receiving is not None:
            self._clear()

    @property
    def _idle(self) -> bool:
        """Whether nothing is asked: what came then was blank lines, which begin no request and buy no time."""
        return self.cycle is None or self.cycle.response_complete

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_headers = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; what comes behind a body is dropped: no proxy has seen that, and nobody may take it for a header.

        RFC 9110, section 6.5.1.
        """
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The headers are here; the body has a time of its own."""
        if self._too_large():
            self._refuse(431)
            raise _TooLargeError
        self._in_headers, self._in_body = False, True
        self._header_bytes = 0
        if self._receiving is not None:
            self._clear()
        super().on_headers_complete()
        if self.ending:
            self.cycle.keep_alive = False
        self.scope[SCOPE_KEY] = Reply(self, self.cycle)  # type: ignore[typeddict-unknown-key] # for the door

    def on_body(self, body: bytes) -> None:
        """A piece of the body, whose reader is woken for all of it or for much."""
        self._header_bytes = 0
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > GATHERED:
            self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The request is here."""
        self._in_body = False
        super().on_message_complete()

    @property
    def ending(self) -> bool:
        """Whether the process is about to stop: the application says so, before the server does."""
        return getattr(self.app, "draining", False)

    def _too_large(self) -> bool:
        """Whether headers that are here are beyond their bounds; counted only where what was read is."""
        if len(self.headers) > MOST_HEADERS:
            return True
        most = self.bounds.header_bytes
        if self._header_bytes <= most and self._fed <= most:
            return False
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > most

    def send_400_response(self, msg: str) -> None:
        """Says that a request cannot be read, unless it was refused already."""
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: the answer says it, and uvicorn's advice to install a library would fill the log."""

    def pause_writing(self) -> None:
        """The client does not read; it has `stall_seconds` to begin again."""
        if self._stalled is None:
            self._stalled = self.loop.call_later(self.bounds.stall_seconds, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()

    def _clear(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None

    def _too_slow(self) -> None:
        self._receiving = None
        self._refuse(408)

    def _refuse(self, status: int) -> None:
        """Ends the connection; says why when nothing is being answered on it."""
        if self.serving is None and not self.transport.is_closing():
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()


class Reply:
    """The answer to one request on a connection."""

    __slots__ = ("_chunked", "_connection", "_cycle", "_head")

    def __init__(self, connection: BoundedConnection, cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle = cycle
        self._chunked = cycle.scope["http_version"] != "1.0"
        self._head = b""

    @property
    def lost(self) -> bool:
        """Whether the client is gone."""
        return self._cycle.disconnected or self._connection.transport.is_closing()

    def served_by(self, task: asyncio.Task[Any] | None) -> None:
        """Names the task that answers, which is cancelled when the client leaves."""
        self._connection.serving = task

    def served(self) -> None:
        """The current task has answered; on a kept connection another may be at the next request already."""
        if self._connection.serving is asyncio.current_task():
            self._connection.serving = None

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Writes a whole answer."""
        if self.lost:
            return
        length = (b"content-length", b"%d" % len(body))
        head = self._headed(status, (*headers, length))
        if len(body) > JOINED:
            self._cycle.transport.writelines((head, body))
        else:
            self._cycle.transport.write(head + body)
        self._complete()

    def open(self, status: int, headers: Headers) -> None:
        """Begins an answer that comes in pieces; written with the first of them."""
        if self._chunked:
            self._head = self._headed(status, (*headers, (b"transfer-encoding", b"chunked")))
        else:
            self._cycle.keep_alive = False  # an HTTP/1.0 client knows the end by the end of the connection
            self._head = self._headed(status, headers)

    async def piece(self, data: bytes, *, last: bool) -> None:
        """Writes the next piece, once the client has read enough of those before."""
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if self.lost:
            return
        if self._chunked:
            framed = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            data = framed + b"0\r\n\r\n" if last else framed
        head, self._head = self._head, b""
        cycle.transport.write(head + data if head else data)
        if last:
            self._complete()

    def cut(self) -> None:
        """Ends an answer that cannot be completed: its client sees that the connection broke, and not an end."""
        self._connection.transport.abort()

    def _headed(self, status: int, headers: Headers) -> bytes:
        self._cycle.response_started = True
        if self._connection.ending:
            self._cycle.keep_alive = False  # or its next request could meet the end of the process
        lines = [STATUS_LINE[status]]
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"\r\n" if self._cycle.keep_alive else b"connection: close\r\n\r\n")
        return b"".join(lines)

    def _complete(self) -> None:
        """Tells uvicorn that the connection is free for the next request."""
        cycle = self._cycle
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()


def bounded(bounds: Bounds) -> type[BoundedConnection]:
    """The protocol class for these bounds, in the form in which uvicorn takes one."""
    return type("Connection", (BoundedConnection,), {"bounds": bounds})
