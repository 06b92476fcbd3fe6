"""A vendor that sends exactly the bytes it is given, piece by piece, and keeps exactly the bytes it got."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer.

    Attributes:
        pieces: The body, as the chunks in which it leaves.
        status: HTTP status.
        kind: Content type.
        headers: Further headers.
        cut: The connection ends without the end of the body.
        hold: Nothing follows the last piece, and the connection stays open.
        pause: Seconds between two pieces.
    """

    pieces: tuple[bytes, ...] = (b"",)
    status: int = 200
    kind: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    hold: bool = False
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


def json(body: bytes, **settings: object) -> Reply:
    """A whole JSON answer."""
    return Reply((body,), **settings)  # type: ignore[arg-type] # fields of Reply


def events(*data: bytes, **settings: object) -> Reply:
    """A stream, one event a piece."""
    return Reply(tuple(b"data: " + one + b"\n\n" for one in data), kind=EVENTS, **settings)  # type: ignore[arg-type]


class RawVendor:
    """Answers each request by the next of `replies`, and by what `reply` says once those are used up."""

    def __init__(self, reply: Callable[[Seen], Reply] = lambda _: Reply()) -> None:
        self.reply = reply
        self.replies: deque[Reply] = deque()
        self.seen: list[Seen] = []
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """The base URL that a provider's configuration takes."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    def queue(self, *replies: Reply) -> None:
        """Answers the next requests by these."""
        self.replies.extend(replies)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            seen = await self._take(reader)
            await self._answer(self.replies.popleft() if self.replies else self.reply(seen), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the gateway left
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _take(self, reader: asyncio.StreamReader) -> Seen:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        named = (line.split(": ", 1) for line in lines[1:] if line)
        headers = {name.lower(): value for name, value in named}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        seen = Seen(lines[0].split(" ")[1], headers, body)
        self.seen.append(seen)
        return seen

    async def _answer(self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        named = {"content-type": reply.kind, "transfer-encoding": "chunked", "connection": "close", **reply.headers}
        lines = [f"HTTP/1.1 {reply.status} Said", *(f"{name}: {value}" for name, value in named.items())]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        for piece in reply.pieces:
            if piece:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
            await asyncio.sleep(reply.pause)
        if reply.hold:
            await reader.read()
        elif not reply.cut:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
