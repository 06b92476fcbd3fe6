"""Framing of server-sent events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.sse import Framer, frame
from polyroute.mesh.errors import MeshError


def framed(*pieces: bytes, limit: int = 1 << 20) -> list[tuple[str, bytes]]:
    """All events of a stream that arrives in these pieces."""
    framer = Framer(max_event_bytes=limit)
    return [event for piece in pieces for event in framer.feed(piece)] + framer.flush()


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [("", b"a"), ("", b"b")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [("", b"a"), ("", b"b")]),
        (b"data: a\r\rdata: b\r\r", [("", b"a"), ("", b"b")]),
        (b"data: a\n\r\ndata: b\r\n\n", [("", b"a"), ("", b"b")]),
        (b"data:a\n\ndata:  b\n\n", [("", b"a"), ("", b" b")]),
        (b"data: a\ndata: b\n\n", [("", b"a\nb")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("", b"a")]),
        (b": comment\n\n:\n\ndata: a\n\n", [("", b"a")]),
        (b"id: 1\nretry: 5\nevent: x\ndata: a\n\ndata: b\n\n", [("x", b"a"), ("", b"b")]),
        (b"event: ping\n\ndata: a\n\n", [("", b"a")]),
        (b"data: \n\ndata\n\ndata: a\n\n", [("", b"a")]),
        (b"\n\n\ndata: a\n\n\n\ndata: b\n\n", [("", b"a"), ("", b"b")]),
        (b'data: {"a":1}', [("", b'{"a":1}')]),
        (b"data: [DONE]", [("", b"[DONE]")]),
        (b"data: half a line\n", [("", b"half a line")]),
        (b'data: {"a":', []),
        (b": only a comm", []),
        (b"", []),
    ],
)
def test_events_are_found_however_they_are_cut(raw: bytes, events: list[tuple[str, bytes]]) -> None:
    """The same events in one piece, in two cut anywhere, and byte by byte."""
    cuts = [framed(raw[:place], raw[place:]) for place in range(len(raw) + 1)]

    assert events == framed(raw)
    assert [events] * len(cuts) == cuts
    assert events == framed(*(raw[place : place + 1] for place in range(len(raw))))


@given(st.lists(st.text(max_size=30), max_size=8), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_any_payload_survives_any_framing(texts: list[str], end: str, data: st.DataObject) -> None:
    """Payloads of any text come back whole, wherever the network cuts."""
    payloads = [text.encode().replace(b"\n", b"").replace(b"\r", b"") for text in texts]
    line_end = end.encode()
    raw = b"".join(b"data: " + payload + line_end + line_end for payload in payloads)
    places = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=5)))
    pieces = [raw[start:stop] for start, stop in zip([0, *places], [*places, len(raw)], strict=True)]

    assert [("", payload) for payload in payloads if payload] == framed(*pieces)


@pytest.mark.parametrize(
    "raw", [b"<html>\n", b'{"error": 1}\n', b"datum: x\n\n", b"data: a\nnonsense\n\n", b"Data: a\n"]
)
def test_a_line_that_is_no_event_ends_the_stream(raw: bytes) -> None:
    """A line of no known field is refused, never skipped."""
    with pytest.raises(MeshError) as caught:
        framed(raw)

    assert caught.value.fault == errors_pb2.FAULT_BAD_ANSWER


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: " + b"x" * 200 + b"\n\n"],
        [b"data: ", *[b"x" * 50] * 4],
        [b"data: " + b"x" * 20 + b"\n"] * 8,
        [b"data: a\n\ndata: " + b"x" * 200 + b"\n\ndata: b\n\n"],
    ],
)
def test_an_event_has_a_size_limit(pieces: list[bytes]) -> None:
    """An event over the limit is refused, in one line or many, ended or not; what comes after it is never read."""
    with pytest.raises(MeshError) as caught:
        framed(*pieces, limit=100)

    assert caught.value.fault == errors_pb2.FAULT_BAD_ANSWER


def test_many_small_events_are_no_large_one() -> None:
    """The limit counts one event, not the stream."""
    raw = b"data: xxxxxxxxxx\n\n" * 100

    assert [("", b"xxxxxxxxxx")] * 100 == framed(raw, limit=50)


def test_pending_tells_a_cut() -> None:
    """Between events nothing is pending; inside one, its bytes are."""
    framer = Framer()

    counts = [framer.pending]
    for piece in (b"data: a\n\n", b"data: b", b"\n", b"\n", b"ev"):
        framer.feed(piece)
        counts.append(framer.pending)

    assert [0, 0, 7, 8, 0, 2] == counts


@given(
    st.lists(
        st.sampled_from(
            [
                b'event: a\ndata: {"x":1}\n\n',
                b'data: {"y":"event: z"}\n\n',
                b"event: b\ndata: event: c\n\n",
                b"event: \ndata: 1\n\n",
                b"event: d\ndata: \n\n",
                b"event: e\ndata: 1\ndata: 2\n\n",
                b": busy\n\n",
                b"\n",
                b"id: 7\nevent: f\ndata:3\n\n",
                b"event: g\n\n",
            ]
        ),
        max_size=6,
    ),
    st.integers(0, 60),
)
def test_the_short_way_reads_the_same(blocks: list[bytes], cut: int) -> None:
    """Events with names, without, and others among them, at once, in two pieces, and byte by byte."""
    raw = b"".join(blocks)
    slow, twice = Framer(), Framer()
    expected = [event for at in range(len(raw)) for event in slow.feed(raw[at : at + 1])]

    assert expected == Framer().feed(raw)
    assert expected == [*twice.feed(raw[:cut]), *twice.feed(raw[cut:])]


def test_frame_writes_canonical_events() -> None:
    """LF only, one line of data each, a name where there is one."""
    assert frame([]) == b""
    assert frame([b"a", b"b"]) == b"data: a\n\ndata: b\n\n"
    assert frame([b"a"], "x") == b"event: x\ndata: a\n\n"
