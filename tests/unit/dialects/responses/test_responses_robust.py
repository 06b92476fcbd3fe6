"""No vendor's bytes, however wrong, break the readers of `openai.responses`; batches and meters."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import openai_responses
from polyroute.dialects.dialect import BrokenStreamError, Metered, SseEvent
from polyroute.dialects.openai_responses import ResponsesMeter
from polyroute.dialects.sse import Framer
from tests.outbound import GOLDEN, attempt, broken, check_robust

DIALECT = openai_responses.DIALECT
CASES = sorted((GOLDEN / "openai_responses").glob("*/response.*"))


def events_in(path: Path) -> list[SseEvent]:
    """The events of a stream, those that are JSON."""
    found = Framer().feed(path.read_bytes().replace(b"<html>", b": "))
    return [(name, data) for name, data in found if data.startswith(b"{") and data.endswith(b"}")]


STREAMS = [events_in(path) for path in CASES if path.suffix == ".sse"]
EVENTS: list[Any] = [json.loads(data) for stream in STREAMS for _, data in stream]
BODIES: list[Any] = [value["response"] for value in EVENTS if "response" in value]


@given(st.lists(broken(EVENTS + BODIES), min_size=1, max_size=6))
def test_no_event_breaks_a_reader(values: list[Any]) -> None:
    """Whatever stands in events and bodies, reading gives steps or an error of the vendor."""
    check_robust(DIALECT, values, [""] * len(values))


@given(st.data())
def test_no_stream_breaks_a_reader(data: st.DataObject) -> None:
    """Streams with one thing replaced, left out, doubled or out of order give steps or an error of the vendor."""
    stream = [json.loads(raw) for _, raw in data.draw(st.sampled_from([stream for stream in STREAMS if stream]))]
    order = data.draw(st.lists(st.integers(0, len(stream) - 1), max_size=len(stream)))
    stream = [stream[place] for place in (order or range(len(stream)))]
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(stream) - 1))
        stream[place] = data.draw(broken([stream[place]]))

    check_robust(DIALECT, stream, [""] * len(stream))


@given(st.lists(broken(EVENTS), min_size=1, max_size=6))
def test_no_event_breaks_a_meter(values: list[Any]) -> None:
    """Metering gives figures or an error of the vendor, and passes on only what it could read."""
    meter = ResponsesMeter()
    for value in values:
        metered, error = attempt(partial(meter.feed, [("", json.dumps(value).encode())]))

        assert error is None or (isinstance(error, BrokenStreamError) and error.metered is not None)
        assert metered is None or metered.data.endswith(b"\n\n")


@given(broken(BODIES))
def test_no_body_breaks_the_figures(value: Any) -> None:
    """What metering reads of whole answers: figures, or an error of the vendor."""
    body = json.dumps(value).encode()

    _, error = attempt(lambda: DIALECT.read_answer_facts(body))

    assert error is None or error.reason == errors_pb2.REASON_UPSTREAM


@given(st.binary())
def test_no_bytes_break_anything(data: bytes) -> None:
    """Bytes that are no JSON at all."""
    calls = [
        partial(DIALECT.reader().feed, [("response.completed", data)]),
        partial(ResponsesMeter().feed, [("error", data)]),
        partial(DIALECT.read_answer, data),
        partial(DIALECT.read_answer_facts, data),
    ]
    errors = [attempt(call)[1] for call in calls]  # type: ignore[arg-type]

    assert all(error.reason == errors_pb2.REASON_UPSTREAM for error in errors if error)
    assert DIALECT.fault_of(500, data, {}).fault != errors_pb2.FAULT_UNSPECIFIED


@given(st.data())
def test_batches_do_not_show(data: st.DataObject) -> None:
    """However the events are batched, reader and meter see the same."""
    stream = data.draw(st.sampled_from([stream for stream in STREAMS if stream]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    batches = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert read_in([stream]) == read_in(batches)
    assert metered_in([stream]) == metered_in(batches)


def read_in(batches: list[list[SseEvent]]) -> tuple[list[pb.ChatEvent], str]:
    """The steps of a stream in these batches, and the error that ended it."""
    reader = DIALECT.reader()
    steps: list[pb.ChatEvent] = []
    try:
        for batch in batches:
            steps += reader.feed(batch)
    except BrokenStreamError as error:
        return steps + list(error.events), error.message
    return steps, ""


def metered_in(batches: list[list[SseEvent]]) -> tuple[Any, ...]:
    """What a meter sees of a stream in these batches."""
    meter = ResponsesMeter()
    out, events, chars, usage, finish = b"", 0, 0, None, pb.FINISH_REASON_UNSPECIFIED
    message = ""
    for batch in batches:
        try:
            metered = meter.feed(batch)
        except BrokenStreamError as error:
            message = error.message
            metered = error.metered or Metered()
        out, events, chars = out + metered.data, events + metered.content_events, chars + metered.text_chars
        usage, finish = metered.usage or usage, metered.finish or finish
        if metered.done or message:
            break
    return out, events, chars, usage, finish, message


def test_padding_and_odd_members_pass() -> None:
    """What a meter does not know passes byte for byte; white space inside an event stays one line."""
    odd = b'{"type":"response.new.delta","delta":{"deep":[1,2]},"obfuscation":"xyz"}'
    lines = b'{"type":"response.output_text.delta",\n"delta":"Hi"}'

    metered = ResponsesMeter().feed([("", odd), ("", lines), ("keepalive", b'{"sequence_number":3}')])

    assert metered.data == (
        b"event: response.new.delta\ndata: " + odd + b"\n\n"
        b"event: response.output_text.delta\ndata: " + lines.replace(b"\n", b" ") + b"\n\n"
        b'event: keepalive\ndata: {"sequence_number":3}\n\n'
    )
    assert (metered.content_events, metered.text_chars) == (1, 2)
