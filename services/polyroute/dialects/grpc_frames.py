"""What a gRPC call says, as bytes: whole messages, and the status at the end; without I/O.

A message is preceded by a byte of flags and its length, as in HTTP/2; the status is a frame of its own, as in gRPC-Web,
so that one stream of bytes tells all of a call. A stream without it was cut.
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.dialect import SseEvent
from polyroute.dialects.sse import MAX_EVENT_BYTES
from polyroute.mesh.errors import MeshError

STREAM: Final = "application/grpc-web+proto"  # an answer that comes in these frames
MESSAGE: Final = "message"  # name of an event that is one message
TRAILERS: Final = "trailers"  # name of the event that says how the call ended
STATUS_KEY: Final = "grpc-status"  # its number, in text
MESSAGE_KEY: Final = "grpc-message"  # its words
_HEAD: Final = 5
_PLAIN: Final = 0x00
_END: Final = 0x80
_NAME: Final = re.compile(r"[a-z0-9_.-]{1,256}")


def frame(message: bytes) -> bytes:
    """One message as it stands in a stream."""
    return _framed(_PLAIN, message)


def trailers(members: Mapping[str, str]) -> bytes:
    """The end of a stream: status and trailing metadata, lower-case names. The status's words may hold anything."""
    lines = [
        f"{name}: {quote(value, safe=' ') if name == MESSAGE_KEY else _line(value)}\r\n"
        for name, value in members.items()
        if _NAME.fullmatch(name)
    ]
    return _framed(_END, "".join(lines).encode("ascii", "replace"))


def read_trailers(data: bytes) -> dict[str, str]:
    """Status and trailing metadata out of the event that ends a stream."""
    found: dict[str, str] = {}
    for line in data.decode("ascii", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            name, value = name.strip().lower(), value.strip()
            found[name] = unquote(value) if name == MESSAGE_KEY else value
    return found


def _framed(flags: int, payload: bytes) -> bytes:
    return bytes((flags,)) + len(payload).to_bytes(4, "big") + payload


def _line(value: str) -> str:
    return value.replace("\r", " ").replace("\n", " ")


class GrpcFramer:
    """Cuts one stream into messages and its end; see `dialect.Framer`. Made per stream; not shared.

    Args:
        max_message_bytes: Most bytes that one message may have.
    """

    __slots__ = ("_buffer", "_limit")

    def __init__(self, *, max_message_bytes: int = MAX_EVENT_BYTES) -> None:
        self._limit = max_message_bytes
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of a frame that has begun and not ended."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[SseEvent]:
        """Takes what one read gave and returns the frames that it completed: (MESSAGE or TRAILERS, payload).

        Raises:
            MeshError: FAULT_BAD_ANSWER for flags that nobody agreed on and for a frame that is too large.
        """
        self._buffer += data
        events: list[SseEvent] = []
        place = 0
        while len(self._buffer) - place >= _HEAD:
            flags = self._buffer[place]
            size = int.from_bytes(self._buffer[place + 1 : place + _HEAD], "big")
            self._check(flags, size)
            end = place + _HEAD + size
            if end > len(self._buffer):
                break
            events.append((TRAILERS if flags else MESSAGE, bytes(self._buffer[place + _HEAD : end])))
            place = end
        del self._buffer[:place]
        return events

    def flush(self) -> list[SseEvent]:
        """Nothing: a frame that was cut is none."""
        return []

    def _check(self, flags: int, size: int) -> None:
        if flags not in (_PLAIN, _END):
            raise MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, "the provider sent a frame of an unknown kind")
        if size > self._limit:
            message = f"the provider sent a message of more than {self._limit} bytes"
            raise MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, message)


def framing(content_type: str) -> GrpcFramer | None:
    """A framer for an answer of this media type when that is such a stream; None when the answer comes whole."""
    return GrpcFramer() if content_type.startswith(STREAM) else None
