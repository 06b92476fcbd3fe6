"""The connection under the HTTP door, with bounds that the server itself does not have.

uvicorn bounds neither a connection that says nothing, nor headers or a body that drip, nor a reader that stops. Here
each has a deadline, and an end of the connection cancels the request that is being answered on it, at once.
"""

import asyncio
import socket
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

SEND_BUFFER: Final = 128 * 1024  # bytes in the kernel; the default grows to megabytes for a reader that stopped
SCOPE_KEY: Final = "polyroute.connection"


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
        self._header_bytes = 0
        self._in_headers = False
        self._in_body = False
        self._serving: asyncio.Task[Any] | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._receiving: asyncio.TimerHandle | None = self.loop.call_later(self.bounds.header_seconds, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: whatever is being answered here is cancelled."""
        self._clear()
        if self._stalled is not None:
            self._stalled.cancel()
        super().connection_lost(exc)
        if self._serving is not None:
            self._serving.cancel()

    @property
    def lost(self) -> bool:
        """Whether the client is gone."""
        return self.transport.is_closing()

    def serve(self, task: asyncio.Task[Any] | None) -> None:
        """Names the task that answers on this connection; None when it has."""
        self._serving = task

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        if not self._in_body:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._in_headers and self._header_bytes > self.bounds.header_bytes:
            self._refuse(b"431 Request Header Fields Too Large")
        elif self._in_headers or self._in_body:
            if self._receiving is None and not self.transport.is_closing():
                self._receiving = self.loop.call_later(self.bounds.header_seconds, self._too_slow)
        elif self._receiving is not None:
            self._clear()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_headers = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The headers are here; the body has a time of its own."""
        self._in_headers, self._in_body = False, True
        self._header_bytes = 0
        self.scope[SCOPE_KEY] = self  # type: ignore[typeddict-unknown-key] # for the door
        self._clear()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is here."""
        self._in_body = False
        super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._receiving is None:
            self._receiving = self.loop.call_later(self.bounds.body_seconds, self._too_slow)
        super().on_body(body)

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
        self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes) -> None:
        """Ends the connection; says why when nothing was answered on it yet."""
        if self._serving is None and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()


def bounded(bounds: Bounds) -> type[BoundedConnection]:
    """The protocol class for these bounds, in the form in which uvicorn takes one."""
    return type("Connection", (BoundedConnection,), {"bounds": bounds})
