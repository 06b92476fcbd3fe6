"""`application/vnd.amazon.eventstream` without I/O: bytes in as the network cut them, whole events out.

A message is a prelude (total length, length of the headers, CRC32 of both), headers, a payload, and a CRC32 of all
that stands before it. https://smithy.io/2.0/aws/amazon-eventstream.html
"""

import zlib
from struct import Struct
from typing import Any, Final, NamedTuple

from polyroute.dialects import jsontools
from polyroute.dialects.asking import bad_answer
from polyroute.dialects.dialect import SseEvent

MEDIA_TYPE: Final = "application/vnd.amazon.eventstream"
MAX_EVENT_BYTES: Final = 16 * 1024 * 1024 + 128 * 1024  # what the specification allows: payload and headers
EXCEPTION: Final = "exception."  # stands before the name of an exception among the names of events

_PRELUDE: Final = Struct(">III")
_CRC: Final = Struct(">I")
_OVERHEAD: Final = _PRELUDE.size + _CRC.size
_KNOWN_HEADERS: Final = 64  # blocks of headers that are remembered: a stream repeats the same few
_TYPE_BYTES: Final = 6
_TYPE_STRING: Final = 7
_FIXED_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}  # of header values, by type

# An exception in the words that the streams of the models' makers have for errors.
_ERROR_TYPES: Final = {
    "throttlingexception": "rate_limit_error",
    "validationexception": "invalid_request_error",
    "serviceunavailableexception": "overloaded_error",
    "modelnotreadyexception": "overloaded_error",
    "modeltimeoutexception": "timeout_error",
    "accessdeniedexception": "authentication_error",
}


class _Kind(NamedTuple):
    """What the headers of a message say: its `:message-type` and the name of the event or exception."""

    message: str
    name: str
    text: str  # of an error that is told in headers alone


class EventStreamFramer:
    """Cuts one stream into events, named by their `:event-type`. Made per stream; not shared.

    An exception is an event named `exception.` and its type, with its payload; an error that stands in headers alone
    gets a payload of `{"message": ...}`.

    Args:
        max_event_bytes: Most bytes that one message may have, its headers included.
    """

    __slots__ = ("_buffer", "_kinds", "_limit")

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._limit = max_event_bytes
        self._buffer = bytearray()
        self._kinds: dict[bytes, _Kind] = {}

    @property
    def pending(self) -> int:
        """Bytes of an event that has begun and not ended; 0 between events."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[SseEvent]:
        """Takes what one read gave and returns the events that it completed; see `dialect.Framer`."""
        buffer = self._buffer
        buffer += data
        events: list[SseEvent] = []
        place = 0
        while len(buffer) - place >= _PRELUDE.size:
            total, headers, crc = _PRELUDE.unpack_from(buffer, place)
            self._check_prelude(buffer, place, total, headers, crc)
            if len(buffer) - place < total:
                break
            self._message(bytes(buffer[place : place + total]), headers, events)
            place += total
        del buffer[:place]
        return events

    def flush(self) -> list[SseEvent]:
        """Nothing: an event is whole when its last byte is there, and then `feed` has given it."""
        return []

    def _check_prelude(self, buffer: bytearray, place: int, total: int, headers: int, crc: int) -> None:
        if zlib.crc32(buffer[place : place + 8]) != crc:
            raise bad_answer("the provider sent a message with a broken prelude in its event stream")
        if total > self._limit:
            raise bad_answer(f"the provider sent an event of more than {self._limit} bytes")
        if total < _OVERHEAD + headers:
            raise bad_answer("the provider sent a message that is shorter than its headers")

    def _message(self, message: bytes, headers: int, events: list[SseEvent]) -> None:
        end = len(message) - _CRC.size
        if zlib.crc32(message[:end]) != _CRC.unpack_from(message, end)[0]:
            raise bad_answer("the provider sent a message with a broken checksum in its event stream")
        start = _PRELUDE.size + headers
        kind = self._kind(message[_PRELUDE.size : start])
        event = self._event(kind, message[start:end])
        if event is not None:
            events.append(event)

    def _kind(self, block: bytes) -> _Kind:
        kind = self._kinds.get(block)
        if kind is None:
            kind = _kind_of(read_headers(block))
            if len(self._kinds) < _KNOWN_HEADERS:
                self._kinds[block] = kind
        return kind

    def _event(self, kind: _Kind, payload: bytes) -> SseEvent | None:
        if kind.message == "event":
            return kind.name, payload
        if kind.text:
            payload = jsontools.dumps({"message": kind.text})
        return EXCEPTION + kind.name, payload


class InvokeFramer(EventStreamFramer):
    """Cuts a stream of InvokeModelWithResponseStream into the events of the model's own format, which it wraps.

    Each message holds one JSON object as base64; exceptions become an event `error` in the form
    `{"type": "error", "error": {"type", "message"}}`.
    """

    __slots__ = ()

    def _event(self, kind: _Kind, payload: bytes) -> SseEvent | None:
        if kind.message != "event":
            return _error_event(kind, payload)
        value = _object(payload)
        inner = value.get("bytes")
        if not isinstance(inner, str):
            return None  # an event that is no chunk, as newer versions may add
        try:
            return "", jsontools.unpacked(inner)
        except ValueError:
            raise bad_answer("the provider sent a chunk that is not base64") from None


def framing(content_type: str) -> EventStreamFramer | None:
    """A framer for an answer of this media type when that is an event stream; None when the answer comes whole."""
    return EventStreamFramer() if content_type.startswith(MEDIA_TYPE) else None


def invoke_framing(content_type: str) -> InvokeFramer | None:
    """The same for InvokeModelWithResponseStream."""
    return InvokeFramer() if content_type.startswith(MEDIA_TYPE) else None


def _error_event(kind: _Kind, payload: bytes) -> SseEvent:
    value = {} if kind.text else _object(payload)
    text = kind.text or value.get("message") or value.get("Message") or ""
    word = _ERROR_TYPES.get(kind.name.lower(), "api_error")
    error = {"type": word, "message": text if isinstance(text, str) else ""}
    return "error", jsontools.dumps({"type": "error", "error": error})


def _object(payload: bytes) -> dict[str, Any]:
    try:
        value = jsontools.loads(payload)
    except ValueError:
        raise bad_answer("the provider sent broken JSON in its stream") from None
    if not isinstance(value, dict):
        raise bad_answer("the provider sent an event that is no object")
    return value


def _kind_of(headers: dict[str, str]) -> _Kind:
    message = headers.get(":message-type", "event")
    if message == "event":
        return _Kind("event", headers.get(":event-type", ""), "")
    if message == "exception":
        return _Kind("exception", headers.get(":exception-type", ""), "")
    code = headers.get(":error-code", "")
    return _Kind("error", code, headers.get(":error-message") or code or "the provider reported an error")


def read_headers(block: bytes) -> dict[str, str]:
    """The headers of a message that are text; those of other types are passed over.

    Raises:
        MeshError: FAULT_BAD_ANSWER when the block does not hold what its lengths say.
    """
    headers: dict[str, str] = {}
    place = 0
    try:
        while place < len(block):
            name, place = _sized(block, place + 1, block[place])
            kind = block[place]
            place += 1
            if kind in (_TYPE_BYTES, _TYPE_STRING):
                size = block[place] << 8 | block[place + 1]
                value, place = _sized(block, place + 2, size)
                headers[name.decode()] = value.decode() if kind == _TYPE_STRING else ""
            else:
                place += _FIXED_SIZES[kind]
    except (IndexError, KeyError, UnicodeDecodeError):
        raise bad_answer("the provider sent broken headers in its event stream") from None
    if place != len(block):
        raise bad_answer("the provider sent broken headers in its event stream")
    return headers


def _sized(block: bytes, start: int, size: int) -> tuple[bytes, int]:
    if start + size > len(block):
        raise IndexError(start)
    return block[start : start + size], start + size
