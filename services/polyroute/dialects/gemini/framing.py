"""How streams of this API are cut into events: server-sent events, or one JSON array that grows.

With `?alt=sse` a stream is server-sent events; an error in its middle may stand there as bare JSON. Without it the
stream is `[{...}, {...}]`, under the media type of plain JSON.
"""

import re
from typing import Final

from polyroute.dialects.asking import bad_answer
from polyroute.dialects.dialect import SseEvent
from polyroute.dialects.gemini.common import loads
from polyroute.dialects.sse import MAX_EVENT_BYTES
from polyroute.dialects.sse import Framer as SseFramer

_BARE: Final = re.compile(rb"[\r\n]\{")
_ENDS: Final = b"\r\n"
# Inside a string only its end and escapes matter; outside only what opens and closes.
_IN_STRING: Final = re.compile(rb'["\\]')
_OUTSIDE: Final = re.compile(rb'["{}\[\]]')
_BETWEEN: Final = b" \t\r\n,"
_BOM: Final = b"\xef\xbb\xbf"


class GeminiFramer:
    """Server-sent events, and JSON that stands bare among them as an event of its own. See `dialect.Framer`."""

    __slots__ = ("_at_start", "_bare", "_sse")

    def __init__(self) -> None:
        self._sse = SseFramer()
        self._bare: bytearray | None = None
        self._at_start = True  # the next byte begins a line

    @property
    def pending(self) -> int:
        """Bytes of an event that has begun and not ended; 0 between events."""
        return self._sse.pending + len(self._bare or b"")

    def feed(self, data: bytes) -> list[SseEvent]:
        """The events that one read completed; see `dialect.Framer.feed`."""
        if self._bare is not None:
            return self._collect(data)
        place = -1
        if self._at_start and data.startswith(b"{"):
            place = 0
        elif b"\n{" in data or b"\r{" in data:  # no line of server-sent events begins like this
            found = _BARE.search(data)
            place = found.start() + 1 if found else -1
        if place < 0:
            if data:
                self._at_start = data[-1] in _ENDS
            return self._sse.feed(data)
        events = self._sse.feed(data[:place]) + self._sse.flush()
        self._bare = bytearray()
        return events + self._collect(data[place:])

    def flush(self) -> list[SseEvent]:
        """The last event of a stream that has ended, when it is whole."""
        return self._sse.flush() if self._bare is None else []

    def _collect(self, data: bytes) -> list[SseEvent]:
        bare = self._bare
        assert bare is not None  # noqa: S101 - both callers have seen it
        bare += data
        if len(bare) > MAX_EVENT_BYTES:
            raise bad_answer(f"the provider sent an event of more than {MAX_EVENT_BYTES} bytes")
        if not data.rstrip().endswith(b"}"):
            return []
        try:
            loads(bytes(bare))
        except ValueError:
            return []  # it goes on
        self._bare = bytearray()
        return [("", bytes(bare))]


class JsonArrayFramer:
    """Cuts a JSON array that grows into its entries, wherever the network cut it. See `dialect.Framer`.

    An object that stands alone (an error, a whole answer) is one entry.

    Args:
        max_event_bytes: Most bytes that one entry may have.
    """

    __slots__ = ("_depth", "_escaped", "_in_string", "_limit", "_pieces", "_size", "_started")

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._limit = max_event_bytes
        self._pieces: list[bytes] = []  # of the entry that has not ended
        self._size = 0
        self._depth = 0  # of that entry; 0 between entries
        self._in_string = False
        self._escaped = False  # the next byte belongs to an escape
        self._started = False

    @property
    def pending(self) -> int:
        """Bytes of an entry that has begun and not ended; 0 between entries."""
        return self._size

    def feed(self, data: bytes) -> list[SseEvent]:
        """The entries that one read completed; see `dialect.Framer.feed`."""
        if not self._started and data:
            self._started = True
            data = data.removeprefix(_BOM)
        events: list[SseEvent] = []
        place = start = 0  # where to look on, and where the entry under way begins
        while place < len(data):
            if self._depth == 0:
                start = self._next(data, place)
                if start < 0:
                    return events
                self._depth, place = 1, start + 1
                continue
            place = self._within(data, place)
            if self._depth == 0:
                events.append(("", b"".join((*self._pieces, data[start:place]))))
                self._pieces.clear()
                self._size = 0
        if self._depth:
            self._keep(data[start:])
        return events

    def flush(self) -> list[SseEvent]:
        """Nothing: an entry that has not closed was cut."""
        return []

    def _next(self, data: bytes, place: int) -> int:
        """Where the next entry begins; -1 when not in this read."""
        found = data.find(b"{", place)
        between = data[place:] if found < 0 else data[place:found]
        if between.strip(_BETWEEN + b"[]"):
            raise bad_answer("the provider sent something else than a list of objects")
        return found

    def _within(self, data: bytes, place: int) -> int:
        """Goes on to the next byte that matters in an entry, and takes it."""
        if self._escaped:
            self._escaped = False
            return place + 1
        found = (_IN_STRING if self._in_string else _OUTSIDE).search(data, place)
        if not found:
            return len(data)
        sign = found.group()
        if sign == b'"':
            self._in_string = not self._in_string
        elif sign == b"\\":
            self._escaped = True
        else:
            self._depth += 1 if sign in b"{[" else -1
        return found.end()

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > self._limit:
            raise bad_answer(f"the provider sent an event of more than {self._limit} bytes")


class ArrayWriter:
    """Turns the canonical events that meters and writers give into one JSON array, for clients without `alt=sse`.

    The door feeds it every piece of the stream and ends a complete one with `close`; a stream that broke stays open, so
    that no client takes it for whole.
    """

    __slots__ = ("_separator",)

    def __init__(self) -> None:
        self._separator = b"["

    def feed(self, data: bytes) -> bytes:
        """Whole events (`data: x`, LF only) as entries of the array."""
        out = []
        for payload in data.removesuffix(b"\n\n").split(b"\n\n") if data else ():
            out += [self._separator, payload.removeprefix(b"data: ")]
            self._separator = b",\r\n"
        return b"".join(out)

    def close(self) -> bytes:
        """The end of the array."""
        return b"[]" if self._separator == b"[" else b"]"
