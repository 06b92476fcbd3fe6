"""`application/vnd.amazon.eventstream`: messages out of bytes, whatever the network and the vendor do."""

import base64
import json
import struct
import zlib
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.bedrock import framing
from polyroute.dialects.bedrock.framing import EventStreamFramer, InvokeFramer, read_headers
from polyroute.mesh.errors import MeshError
from tests.unit.dialects.bedrock import eventstream


def fault_of(work: Callable[[], object]) -> int | None:
    """The fault that work ends with; None when it ends well."""
    try:
        work()
    except MeshError as error:
        return error.fault
    return None


TWO = eventstream.stream([("messageStart", {"role": "assistant"}), ("messageStop", {"stopReason": "end_turn"})])


def test_messages_become_events() -> None:
    """The name is the event's type, the data its payload."""
    events = EventStreamFramer().feed(TWO)

    assert [("messageStart", b'{"role": "assistant"}'), ("messageStop", b'{"stopReason": "end_turn"}')] == events


@given(st.lists(st.integers(0, len(TWO)), max_size=8))
def test_cuts_do_not_show(places: list[int]) -> None:
    """Any split gives the same events, and nothing is pending at the end."""
    ends = [*sorted(places), len(TWO)]
    framer = EventStreamFramer()

    events = [event for start, end in zip([0, *ends], ends, strict=False) for event in framer.feed(TWO[start:end])]

    assert EventStreamFramer().feed(TWO) == events
    assert framer.pending == 0


def test_what_has_begun_is_pending_and_never_flushed() -> None:
    """A message that was cut is no event, not even at the end."""
    framer = EventStreamFramer()
    framer.feed(TWO[:-1])

    assert framer.pending > 0
    assert [] == framer.flush()


@pytest.mark.parametrize("place", [0, 5, 9, 20, 60, len(TWO) // 2 - 1])
def test_a_flipped_bit_is_refused(place: int) -> None:
    """Neither the prelude, the headers, the payload nor a checksum may change."""
    raw = bytearray(TWO)
    raw[place] ^= 1

    with pytest.raises(MeshError) as caught:
        EventStreamFramer().feed(bytes(raw))

    assert errors_pb2.FAULT_BAD_ANSWER == caught.value.fault


def test_what_is_no_event_stream_is_refused() -> None:
    """A JSON error or a page under this media type must not pass for an empty answer."""
    for raw in (b'{"message": "no"}', b"<html><body>Bad gateway</body></html>"):
        with pytest.raises(MeshError):
            EventStreamFramer().feed(raw)


def test_a_message_is_bounded() -> None:
    """A length beyond the limit is refused before the bytes come."""
    prelude = struct.pack(">II", 1 << 30, 0)

    with pytest.raises(MeshError, match="more than 1000 bytes"):
        EventStreamFramer(max_event_bytes=1000).feed(prelude + struct.pack(">I", zlib.crc32(prelude)))


def test_a_message_shorter_than_its_headers_is_refused() -> None:
    """Lengths that contradict each other are refused."""
    prelude = struct.pack(">II", 20, 100)

    with pytest.raises(MeshError, match="shorter than its headers"):
        EventStreamFramer().feed(prelude + struct.pack(">I", zlib.crc32(prelude)))


def test_an_exception_is_told_by_its_type() -> None:
    """Exceptions are events whose names say so."""
    raw = eventstream.event("throttlingException", {"message": "slow"}, kind="exception")

    assert [("exception.throttlingException", b'{"message": "slow"}')] == EventStreamFramer().feed(raw)


def test_an_error_in_headers_alone_gets_a_payload() -> None:
    """Errors that nobody modelled stand in `:error-code` and `:error-message`."""
    headers = eventstream.header(":message-type", "error") + eventstream.header(":error-code", "InternalError")
    raw = eventstream.message(headers + eventstream.header(":error-message", "broke"), b"")

    assert [("exception.InternalError", b'{"message":"broke"}')] == EventStreamFramer().feed(raw)


def test_headers_of_every_type_are_passed_over() -> None:
    """Numbers, times, switches, bytes and UUIDs among the headers do no harm."""
    values = {
        0: b"",
        1: b"",
        2: b"\x01",
        3: b"\x00\x01",
        4: bytes(4),
        5: bytes(8),
        6: b"\x00\x03abc",
        8: bytes(8),
        9: bytes(16),
    }
    block = b"".join(b"\x01x" + bytes([kind]) + value for kind, value in values.items())

    assert {"x": "", "a": "b"} == read_headers(block + eventstream.header("a", "b"))


@given(st.binary(max_size=60))
def test_broken_headers_are_refused_and_nothing_else_happens(block: bytes) -> None:
    """Any bytes are headers or a bad answer."""
    assert fault_of(lambda: read_headers(block)) in (None, errors_pb2.FAULT_BAD_ANSWER)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_wait(raw: bytes) -> None:
    """Nothing but a bad answer ever comes of nonsense."""
    for framer in (EventStreamFramer(), InvokeFramer()):
        assert fault_of(partial(framer.feed, raw)) in (None, errors_pb2.FAULT_BAD_ANSWER)


def test_an_answer_of_another_type_comes_whole() -> None:
    """Only event streams are cut into events."""
    assert framing.framing("application/json") is None
    assert framing.invoke_framing("application/json") is None
    assert isinstance(framing.framing("application/vnd.amazon.eventstream"), EventStreamFramer)
    assert isinstance(framing.invoke_framing("application/vnd.amazon.eventstream"), InvokeFramer)


def chunk(value: object) -> bytes:
    """A message of InvokeModelWithResponseStream."""
    inner = base64.b64encode(json.dumps(value).encode()).decode()
    return eventstream.event("chunk", {"bytes": inner, "p": "abc"})


def test_chunks_are_unwrapped() -> None:
    """What a chunk holds is an event without a name, as in a stream of the model's own format."""
    events = InvokeFramer().feed(chunk({"type": "ping"}) + chunk({"type": "message_stop"}))

    assert [("", b'{"type": "ping"}'), ("", b'{"type": "message_stop"}')] == events


def test_an_exception_among_chunks_is_an_error_of_the_models_own_format() -> None:
    """The reader of that format knows what to do with it."""
    raw = eventstream.event("throttlingException", {"message": "slow"}, kind="exception")

    [(name, data)] = InvokeFramer().feed(raw)

    assert "error" == name
    assert {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}} == json.loads(data)


@pytest.mark.parametrize("payload", [b"", b"[]", b'{"bytes": "%%"}'])
def test_a_chunk_that_is_none_is_refused(payload: bytes) -> None:
    """A chunk is an object with base64."""
    headers = eventstream.header(":event-type", "chunk") + eventstream.header(":message-type", "event")

    with pytest.raises(MeshError):
        InvokeFramer().feed(eventstream.message(headers, payload))
