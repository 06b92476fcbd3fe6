"""Server-sent events without I/O: bytes in as the network cut them, whole events out.

Follows https://html.spec.whatwg.org/multipage/server-sent-events.html, with two differences that a proxy needs: an
event is bounded in size, and a line that is no SSE at all ends the stream instead of being ignored (an HTML page or a
bare JSON error under `text/event-stream` must not pass for an empty answer).
"""

import re
from typing import Final

import msgspec

from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError

MEDIA_TYPE: Final = "text/event-stream"
MAX_EVENT_BYTES: Final = 8 * 1024 * 1024
DONE: Final = b"[DONE]"

_BOM: Final = b"\xef\xbb\xbf"
_PREFIX: Final = b"data: "
_BETWEEN: Final = b"\n\ndata: "
_NAME: Final = b"event: "
_NAMED: Final = re.compile(rb"(?<![^\n])event: ([^\n]*)\ndata: ([^\n]+)\n\n")
_USUAL: Final = (_PREFIX, _NAME)  # how most events begin
_BEGINNINGS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")
_IGNORED: Final = frozenset({b"id", b"retry"})


class Framer:
    """Cuts one stream into events. Made per stream; not shared.

    Args:
        max_event_bytes: Most bytes that one event may have, its field names included.
    """

    __slots__ = ("_data", "_event", "_limit", "_partial", "_partial_size", "_size", "_skip_lf", "_started")

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._limit = max_event_bytes
        self._partial: list[bytes] = []  # pieces of the line that has not ended
        self._partial_size = 0
        self._data: list[bytes] = []  # data lines of the event that has not ended
        self._event = ""
        self._size = 0  # bytes of the ended lines of that event
        self._skip_lf = False  # the last byte was CR: a LF that follows belongs to it
        self._started = False

    @property
    def pending(self) -> int:
        """Bytes of an event that has begun and not ended; 0 between events."""
        return self._size + self._partial_size

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """Takes what one read gave and returns the events that it completed, as (name or "", data).

        Raises:
            MeshError: FAULT_BAD_ANSWER for a line that is not SSE and for an event that is too large.
        """
        if self._partial and not self._size and b"\n\n" in data:
            # the usual cut, in the middle of a one-line event: joined with its beginning it is canonical again
            data = b"".join((*self._partial, data))
            self._partial.clear()
            self._partial_size = 0
        if not self._partial and not self._size and not self._skip_lf and data.startswith(_USUAL):
            end = data.rfind(b"\n\n")
            if end >= 0 and b"\r" not in data:
                named = data.startswith(_NAME)
                events = self._named(data[: end + 2]) if named else self._canonical(data[:end])
                if events is not None:
                    self._started = True
                    return events if end + 2 == len(data) else events + self._remainder(data[end + 2 :])
        return self._lines(data)

    def flush(self) -> list[tuple[str, bytes]]:
        """The last event of a stream that ended without a blank line; empty when what is pending was cut.

        Whole means: its last line had ended, or its data is the end marker or complete JSON.
        """
        if not self.pending:
            return []
        cut_line = bool(self._partial) and not self._partial[-1].endswith(b"\n")
        try:
            events = self._lines(b"\n\n")
        except MeshError:
            if cut_line:  # in the middle of a field's name
                return []
            raise
        if cut_line and not all(data.strip() == DONE or _is_json(data) for _, data in events):
            return []
        return events

    def _canonical(self, block: bytes) -> list[tuple[str, bytes]] | None:
        payloads = block[len(_PREFIX) :].split(_BETWEEN)
        # any other line, be it a comment, a field or a second data line, brings a line feed of its own
        if block.count(b"\n") != 2 * (len(payloads) - 1) or b"" in payloads:
            return None
        if len(block) > self._limit and len(max(payloads, key=len)) > self._limit:
            return None
        return [("", payload) for payload in payloads]

    def _named(self, block: bytes) -> list[tuple[str, bytes]] | None:
        found = _NAMED.findall(block)
        # any other line brings a line feed of its own, and nothing else stands in front of a name
        if block.count(b"\n") != 3 * len(found):
            return None
        if len(block) > self._limit and any(len(data) > self._limit for _, data in found):
            return None
        return [(name.decode("utf-8", "replace"), data) for name, data in found]

    def _remainder(self, data: bytes) -> list[tuple[str, bytes]]:
        """The begin of an event whose end is still to come; it is kept as it is, to be canonical with its end."""
        if not data.startswith(_USUAL):
            return self._lines(data)
        self._keep(data)
        return []

    def _lines(self, data: bytes) -> list[tuple[str, bytes]]:
        if self._skip_lf and data:
            self._skip_lf = False
            data = data.removeprefix(b"\n")
        if b"\n" not in data and b"\r" not in data:
            self._keep(data)
            return []
        if self._partial:
            data = b"".join((*self._partial, data))
            self._partial.clear()
            self._partial_size = 0
        lines = data.splitlines()  # of bytes: LF, CR and CRLF, nothing else
        self._skip_lf = data.endswith(b"\r")
        rest = b"" if data.endswith((b"\n", b"\r")) else lines.pop()
        events: list[tuple[str, bytes]] = []
        for line in lines:
            self._line(line, events)
        self._keep(rest)
        return events

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._partial.append(piece)
            self._partial_size += len(piece)
            self._check_size()

    def _line(self, line: bytes, events: list[tuple[str, bytes]]) -> None:
        if not self._started:
            self._started = True
            line = line.removeprefix(_BOM)
        if not line:
            data = b"\n".join(self._data)
            if data:  # without data there is no event, says the specification
                events.append((self._event, data))
            self._data.clear()
            self._event = ""
            self._size = 0
            return
        field, _, value = line.partition(b":")
        if not field:
            return  # a comment, as keep-alives are
        value = value.removeprefix(b" ")
        self._size += len(line) + 1
        self._check_size()
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._event = value.decode("utf-8", "replace")
        elif field not in _IGNORED:
            raise MeshError.upstream(
                errors_pb2.FAULT_BAD_ANSWER, "the provider sent a line that is not a server-sent event"
            )

    def _check_size(self) -> None:
        if self._size + self._partial_size > self._limit:
            raise MeshError.upstream(
                errors_pb2.FAULT_BAD_ANSWER, f"the provider sent an event of more than {self._limit} bytes"
            )


def frame(payloads: list[bytes], name: str = "") -> bytes:
    """Payloads without line feeds as canonical events: LF only, `data: x`, one line each."""
    if not payloads:
        return b""
    if name:
        head = b"event: " + name.encode() + b"\n"
        return b"".join([head + _PREFIX + payload + b"\n\n" for payload in payloads])
    return _PREFIX + _BETWEEN.join(payloads) + b"\n\n"


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def begins(body: bytes) -> bool:
    """Whether a body is such a stream by how it begins, whatever media type it has."""
    return body.removeprefix(_BOM).lstrip(b"\r\n").startswith(_BEGINNINGS)


def framing(content_type: str) -> Framer | None:
    """A framer for an answer of this media type when that is SSE; None when the answer comes whole."""
    return Framer() if content_type.startswith(MEDIA_TYPE) else None
