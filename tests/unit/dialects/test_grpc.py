"""Frames and statuses of gRPC: what a call says, whatever its messages are."""

import base64

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.dialects.grpc_frames import (
    MESSAGE,
    STREAM,
    TRAILERS,
    GrpcFramer,
    frame,
    framing,
    read_trailers,
    trailers,
)
from polyroute.dialects.grpc_status import fault_of
from polyroute.mesh.errors import MeshError

NAMES = st.from_regex(r"[a-z][a-z-]{0,6}", fullmatch=True).filter(lambda name: name != "grpc-message")


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 9))
def test_messages_however_they_were_cut(messages: list[bytes], step: int) -> None:
    """Each whole, in order, and nothing left over."""
    raw = b"".join(map(frame, messages)) + trailers({"grpc-status": "0"})
    framer = GrpcFramer()
    events = [event for place in range(0, len(raw), step) for event in framer.feed(raw[place : place + step])]

    assert [(MESSAGE, message) for message in messages] == events[:-1]
    assert (TRAILERS, b"grpc-status: 0\r\n") == events[-1]
    assert 0 == framer.pending
    assert [] == framer.flush()


def test_frame_that_was_cut_is_none() -> None:
    """It waits for its end."""
    framer = GrpcFramer()

    assert [] == framer.feed(frame(b"abc")[:-1])
    assert 7 == framer.pending
    assert [] == framer.flush()


@pytest.mark.parametrize("raw", [b"\x01\x00\x00\x00\x01a", b"<html>", b"\x00\x7f\xff\xff\xff"])
def test_what_is_no_frame(raw: bytes) -> None:
    """Compressed where nothing was agreed, another protocol, or too large to be kept."""
    with pytest.raises(MeshError) as caught:
        GrpcFramer().feed(raw)
    assert pb.FAULT_BAD_ANSWER == caught.value.fault


def test_which_answers_are_framed() -> None:
    """By their media type."""
    assert framing(STREAM) is not None
    assert framing("application/protobuf") is None


@given(st.dictionaries(NAMES, st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=9)), st.text())
def test_trailers_are_read_as_they_were_written(members: dict[str, str], words: str) -> None:
    """The words may hold anything but what ends them."""
    stripped = words.encode("utf-8", "replace").decode().strip(" ")
    [(_, data)] = GrpcFramer().feed(trailers({**members, "grpc-message": stripped}))

    assert {**members, "grpc-message": stripped} == read_trailers(data)


@given(st.binary(max_size=40))
def test_any_trailers(data: bytes) -> None:
    """Are read as far as they are any."""
    assert isinstance(read_trailers(data), dict)


STATUSES = {
    1: "SERVER", 2: "SERVER", 3: "CLIENT", 4: "STALL", 5: "MODEL_GONE", 6: "CLIENT", 7: "CREDENTIAL", 8: "RATE",
    9: "CLIENT", 10: "SERVER", 11: "CLIENT", 12: "SERVER", 13: "SERVER", 14: "SERVER", 15: "SERVER", 16: "CREDENTIAL",
    77: "SERVER",
}  # fmt: skip


@pytest.mark.parametrize(("code", "name"), STATUSES.items())
def test_status(code: int, name: str) -> None:
    """One table, without a word."""
    error = fault_of(200, b"", {"grpc-status": str(code)})

    assert f"FAULT_{name}" == pb.Fault.Name(error.fault)
    assert 400 <= int(error.metadata["upstream_status"]) < 600


@pytest.mark.parametrize(
    ("code", "words", "name"),
    [
        (3, "This model's maximum prompt length exceeds the context window", "CONTEXT"),
        (3, "the prompt is too long", "CONTEXT"),
        (3, "Content violates usage guidelines", "FILTER"),
        (8, "you have insufficient credits", "QUOTA"),
        (8, "SERVER: Received message larger than max (9 vs. 4)", "CLIENT"),
        (4, "the prompt is too long", "CONTEXT"),
    ],
)
def test_words_say_it_better(code: int, words: str, name: str) -> None:
    """Those that every vendor uses."""
    error = fault_of(200, b"", {"grpc-status": str(code), "grpc-message": words})

    assert f"FAULT_{name}" == pb.Fault.Name(error.fault)
    assert words == error.message


def test_details() -> None:
    """When to come back, and the vendor's own word."""
    status = status_pb2.Status(code=8, message="later")
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(2500)
    for detail in (retry, error_details_pb2.ErrorInfo(reason="TEAM_LIMIT")):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    raw = base64.b64encode(status.SerializeToString()).decode().rstrip("=")
    error = fault_of(200, b"", {"grpc-status": "8", "grpc-status-details-bin": raw})

    assert (2.5, "later", "TEAM_LIMIT") == (error.retry_after, error.message, error.metadata["vendor_code"])


@given(st.text(max_size=20))
def test_details_that_are_none(text: str) -> None:
    """The status says enough."""
    error = fault_of(200, b"", {"grpc-status": "8", "grpc-status-details-bin": text})

    assert pb.FAULT_RATE == error.fault


def test_proxy_that_answers_in_the_vendors_place() -> None:
    """Without a status of gRPC, that of HTTP stands."""
    assert pb.FAULT_SERVER == fault_of(502, b"<html>", {}).fault
