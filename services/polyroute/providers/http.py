"""HTTP/1.1 to vendors: one request at a time on a kept connection, the answer as it arrives.

A general client costs several times what everything else on the path of a call does (docs/performance.md has the
figures), because of what a gateway does not need: redirects, cookies, sessions, proxies. What is left is httptools (the
parser of Node.js) for the framing, the event loop's own TLS, and aiohappyeyeballs (RFC 8305) for connecting. Framing:
https://www.rfc-editor.org/rfc/rfc9112.
"""

import asyncio
import socket
import ssl
import zlib
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import urljoin, urlsplit

import aiohappyeyeballs
import httptools

MAX_HEAD_BYTES: Final = 64 * 1024
HIGH_WATER: Final = 256 * 1024  # bytes of an unread answer at which the vendor is asked to wait
MAX_OPENED_BYTES: Final = 16 * 1024 * 1024  # to which one compressed piece may open
JOINED: Final = 64 * 1024  # bytes of a body up to which one copy is cheaper than a second write
CONNECT_DELAY: Final = 0.25  # s before the next address of a name is tried beside the first (RFC 8305)
# Asked after so many seconds of silence, then so many seconds apart; gone after so many questions without an answer.
KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
_NO_BODY: Final = frozenset({204, 304})
_WINDOWS: Final = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


class NotConnectedError(OSError):
    """No connection could be made: nothing was sent."""


class BrokenError(OSError):
    """The connection ended, or stopped making sense, before the answer was whole."""


class Address(NamedTuple):
    """Where connections go: what a pool is kept for."""

    host: str
    port: int
    tls: bool


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: an address, and the request's head up to its length.

    Attributes:
        address: Where to connect.
        head: Request line and headers, each line ended; not yet content-length nor the empty line.
        rpc: It is a call of gRPC: the path is the method, the headers are metadata.
    """

    address: Address
    head: bytes
    rpc: bool = False


def target(url: str, headers: Mapping[str, str], *, rpc: bool = False) -> Target:
    """The target of POST requests, or of calls of gRPC, to `url`.

    Raises:
        ValueError: The address is not http(s), or a header would break the framing.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{parts.scheme}://{parts.netloc} is not an http(s) address")
    tls = parts.scheme == "https"
    address = Address(parts.hostname, parts.port or (443 if tls else 80), tls)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"POST {path} HTTP/1.1", f"host: {parts.netloc.rpartition('@')[2]}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header must not hold a line break")
    return Target(address, ("\r\n".join(lines) + "\r\n").encode("latin-1"), rpc)


def changed(
    given: Target,
    *,
    method: str = "",
    path: str = "",
    headers: Iterable[tuple[str, str]] = (),
    drop: Iterable[str] = (),
) -> Target:
    """The target of another request at the same address, with the same credentials.

    Args:
        given: The target to start from.
        method: Another method; empty for the same.
        path: Another path, relative to the one given (RFC 3986, 5.2); its query stays. Empty for the same.
        headers: Headers, lower-case names, that stand in place of those of the same name.
        drop: Lower-case names of headers that do not go along.

    Raises:
        ValueError: The path leaves the address, or a header would break the framing.
    """
    first, *lines = given.head.decode("latin-1").removesuffix("\r\n").split("\r\n")
    old_method, old_path, version = first.split(" ")
    new = dict(headers)
    away = {*drop, *new}
    kept = [line for line in lines if line.partition(":")[0].lower() not in away]
    words = (method or old_method, _joined(old_path, path) if path else old_path, version)
    out = [" ".join(words), *kept, *(f"{name}: {value}" for name, value in new.items())]
    if any("\r" in line or "\n" in line for line in out):
        raise ValueError("a header must not hold a line break")
    return Target(given.address, ("\r\n".join(out) + "\r\n").encode("latin-1"))


def _joined(base: str, reference: str) -> str:
    path, mark, query = base.partition("?")
    parts = urlsplit(reference)
    joined = urljoin(path, parts.path)
    leaves = parts.scheme or parts.netloc or not joined.startswith("/") or joined.startswith("//")
    if leaves or " " in joined or ".." in joined.split("/"):
        raise ValueError("the path leaves the address")
    return joined + mark + query


class Connection(asyncio.Protocol):
    """One connection and the answer that is arriving on it.

    Attributes:
        status: Of the answer; 0 before its headers are here.
        headers: Of the answer, lower-case names.
        complete: The whole answer has arrived; parts of it may still be unread.
        used: How many requests it has carried.
        idle_since: Loop time at which it was given back.
    """

    def __init__(self) -> None:
        self.used = 0
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._lost = False
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._head_bytes = 0
        self._opened: zlib._Decompress | None = None
        self._paused = False
        self._kept = False

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent on it any more."""
        return self._lost or self._transport is None or self._transport.is_closing()

    @property
    def reusable(self) -> bool:
        """Whether another request may follow on it."""
        return self._kept and not self.closed

    def send(self, head: bytes, body: bytes) -> None:
        """Sends a request, whose answer then arrives."""
        assert self._transport is not None  # noqa: S101 - connected, or it would not be here
        if self.used:
            self._begin()
        self.used += 1
        whole_head = b"%bcontent-length: %d\r\n\r\n" % (head, len(body))
        if len(body) > JOINED:
            self._transport.writelines((whole_head, body))
        else:
            self._transport.write(whole_head + body)

    async def answered(self) -> None:
        """Returns once the answer's headers are here.

        Raises:
            BrokenError: The connection ended before.
        """
        while not self.status:
            await self._wait()

    async def read(self) -> bytes:
        """What has arrived of the body, at least one byte; empty at its end.

        Raises:
            BrokenError: It ended before it was whole.
        """
        while not self._pieces:
            if self.complete:
                return b""
            await self._wait()
        pieces, self._pieces, self._size = self._pieces, [], 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @property
    def drained(self) -> bool:
        """Whether the whole answer has arrived and been read."""
        return self.complete and not self._pieces

    def close(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        if self._lost:
            raise BrokenError("the connection ended")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _break(self, error: BaseException) -> None:
        self._error = error
        self.close()
        self._wake()

    # asyncio's protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # a stream's, always
        """The connection stands."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer."""
        if not self.used or (self.complete and not self._pieces):
            self.close()  # bytes that nobody asked for: the connection cannot be trusted any more
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, zlib.error) as error:
            self._break(BrokenError(f"not HTTP: {type(error).__name__}"))
            return
        if not self.status:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._break(BrokenError("the answer's headers do not end"))
                return
        self._wake()

    def eof_received(self) -> bool | None:
        """The vendor will send no more."""
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; an answer without a length ends here."""
        self._lost = True
        unbounded = "content-length" not in self.headers and "chunked" not in self.headers.get("transfer-encoding", "")
        if exc is None and self.status and unbounded and self._error is None:
            self.complete = True
        self._wake()

    # httptools' callbacks

    def on_message_begin(self) -> None:
        """An answer begins, the only one to its request."""
        if self.complete:
            raise BrokenError("an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """All headers are here."""
        status = self._parser.get_status_code()
        if status < 200:
            self.headers.clear()
            return
        self.status = status
        window = _WINDOWS.get(self.headers.get("content-encoding", "").lower())
        if window is not None:
            self._opened = zlib.decompressobj(window)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._opened is not None:
            body = self._opened.decompress(body, MAX_OPENED_BYTES)
            if self._opened.unconsumed_tail:
                raise BrokenError("the answer opens to too much")
            if not body:  # nothing to read yet
                return
        self._pieces.append(body)
        self._size += len(body)
        if self._size > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self.status:
            self.complete = True
            self._kept = bool(self._parser.should_keep_alive())


def _keep_alive(connected: socket.socket) -> None:
    """Has the system ask a silent vendor whether it is there, before what lies between forgets the connection."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # not every system has each of them
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Pool:
    """Connections that are kept for the next request, by address.

    Args:
        idle_seconds: How long one is kept; less than the time after which common servers close theirs.
        most: Most connections in use to one address; 0 means no limit.
    """

    def __init__(self, *, idle_seconds: float, most: int = 0) -> None:
        self._idle_seconds = idle_seconds
        self._most = most
        self._idle: dict[Address, deque[Connection]] = {}
        self._slots: dict[Address, asyncio.Semaphore] = {}
        self._context: ssl.SSLContext | None = None

    async def acquire(self, address: Address) -> Connection:
        """A connection to `address`, kept or new.

        Raises:
            NotConnectedError: It cannot be reached.
        """
        if self._most:
            await self._slots.setdefault(address, asyncio.Semaphore(self._most)).acquire()
        try:
            return self._kept(address) or await self._connect(address)
        except BaseException:
            self._leave(address)
            raise

    def release(self, address: Address, connection: Connection) -> None:
        """Takes a connection back; one whose answer was not read to its end is closed."""
        self._leave(address)
        if connection.drained and connection.reusable:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.setdefault(address, deque()).append(connection)
        else:
            connection.close()

    def _leave(self, address: Address) -> None:
        if self._most:
            self._slots[address].release()

    def _kept(self, address: Address) -> Connection | None:
        idle = self._idle.get(address)
        if not idle:
            return None
        oldest = asyncio.get_running_loop().time() - self._idle_seconds
        while idle and (idle[0].idle_since < oldest or idle[0].closed):
            idle.popleft().close()
        while idle:
            connection = idle.pop()  # the one used last: the others may grow old and be closed
            if not connection.closed:
                return connection
        return None

    async def _connect(self, address: Address) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(address.host, address.port, type=1)
            connected = await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=CONNECT_DELAY)
            _keep_alive(connected)
            _, connection = await loop.create_connection(
                Connection,
                sock=connected,
                ssl=self._tls() if address.tls else None,
                server_hostname=address.host if address.tls else None,
            )
        except OSError as error:
            raise NotConnectedError(type(error).__name__) from error
        return connection

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context()
            self._context.set_alpn_protocols(["http/1.1"])
        return self._context

    def close(self) -> None:
        """Closes what is kept."""
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()
