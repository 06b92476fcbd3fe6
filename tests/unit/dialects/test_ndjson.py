"""Lines of JSON, however the network cut them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.ndjson import NdjsonFramer, framing
from polyroute.mesh.errors import MeshError

LINES = st.lists(st.sampled_from([b"{}", b'{"a":1}', b"[1, 2]", '{"é":"\u2028"}'.encode()]), max_size=6)


@given(LINES, st.sampled_from([b"\n", b"\r\n", b"\n\n"]), st.lists(st.integers(0, 80), max_size=6), st.booleans())
def test_cuts_do_not_show(lines: list[bytes], between: bytes, cuts: list[int], ends: bool) -> None:
    """Every line once, the last one also without a line feed."""
    raw = between.join(lines) + (between if ends else b"")
    places = sorted(min(cut, len(raw)) for cut in cuts)
    framer = NdjsonFramer()

    found = [
        event
        for start, end in zip([0, *places], [*places, len(raw)], strict=True)
        for event in framer.feed(raw[start:end])
    ]

    assert [("", line) for line in lines] == found + framer.flush()
    assert 0 == framer.pending


def test_a_cut_line_is_no_line() -> None:
    """What is pending at the end counts only when it is whole."""
    framer = NdjsonFramer()

    events = framer.feed(b'{"a":1}\n{"b":')

    assert ([("", b'{"a":1}')], 5, []) == (events, framer.pending, framer.flush())


@pytest.mark.parametrize("data", [b"x" * 9, b"x" * 9 + b"\n", b"{}\n" + b"x" * 9 + b"\n{}"])
def test_a_line_has_a_bound(data: bytes) -> None:
    """Before it ends and after."""
    with pytest.raises(MeshError) as caught:
        NdjsonFramer(max_line_bytes=8).feed(data)

    assert errors_pb2.FAULT_BAD_ANSWER == caught.value.fault


@pytest.mark.parametrize(
    ("content_type", "lines"),
    [("application/x-ndjson", True), ("application/x-ndjson; charset=utf-8", True), ("application/json", False)],
)
def test_by_media_type(content_type: str, lines: bool) -> None:
    """A whole answer has no framing."""
    assert lines == (framing(content_type) is not None)
