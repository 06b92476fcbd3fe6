"""Takes down what goes to the client, and keeps the last bytes back until the answer is saved.

It stands between an exchange and its connection and looks like the connection: the client may leave, and the answer is
still taken down to its end.
"""

import asyncio
from typing import Any, Final

from polyroute.edge.http.connection import Headers, Reply

MOST_STREAM: Final = 1 << 20  # bytes kept of a stream
MOST_WHOLE: Final = 8 << 20  # and of an answer in one piece, as pictures are
_CONTENT_TYPE: Final = b"content-type"


class Tape:
    """The answer to one request, taken down.

    Args:
        reply: Where it goes.
        silent: Keeps the connection alive and is no part of the answer.
    """

    def __init__(self, reply: Reply, silent: bytes) -> None:
        self._reply = reply
        self._silent = silent
        self._pieces: list[bytes] = []
        self._size = 0
        self._whole: tuple[int, list[tuple[bytes, bytes]], bytes] | None = None
        self._last: bytes | None = None
        self._cut = False
        self.status = 0
        self.content_type = ""

    @property
    def lost(self) -> bool:
        """Never: nobody needs to be there for an answer to be taken down."""
        return False

    @property
    def body(self) -> bytes | None:
        """The whole answer; None when it is too large to keep or has no end."""
        if self._whole is not None:
            body = self._whole[2]
            return body if len(body) <= MOST_WHOLE else None
        if self._cut or self._last is None or self._size > MOST_STREAM:
            return None
        return b"".join(self._pieces)

    def served_by(self, task: asyncio.Task[Any] | None) -> None:
        """The exchange around this one is told; a client that leaves does not end what is taken down."""

    def served(self) -> None:
        """See `served_by`."""

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Takes a whole answer."""
        found = list(headers)
        self._about(status, found)
        self._whole = (status, found, body)

    def open(self, status: int, headers: Headers) -> None:
        """Begins an answer that comes in pieces."""
        found = list(headers)
        self._about(status, found)
        self._reply.open(status, found)

    async def piece(self, data: bytes, *, last: bool) -> None:
        """Takes the next piece and passes it on, unless it is the last."""
        if data is not self._silent:
            self._size += len(data)
            if self._size <= MOST_STREAM:
                self._pieces.append(data)
            else:
                self._pieces.clear()
        if last:
            self._last = data
        else:
            await self._reply.piece(data, last=False)

    def cut(self) -> None:
        """The answer cannot be completed."""
        self._cut = True

    async def release(self) -> None:
        """Passes on what was kept back."""
        if self._whole is not None:
            self._reply.whole(*self._whole)
        elif self._cut:
            self._reply.cut()
        elif self._last is not None:
            await self._reply.piece(self._last, last=True)

    def _about(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.content_type = next((value.decode("latin-1") for name, value in headers if name == _CONTENT_TYPE), "")
