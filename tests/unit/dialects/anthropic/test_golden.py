"""Golden cases of `anthropic.messages`: what vendors must get, what they answer, and what becomes of it in passing."""

import json
from pathlib import Path

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.dialects import anthropic_messages
from polyroute.dialects.dialect import BrokenStreamError, Metered
from polyroute.dialects.events import assemble, take_apart
from polyroute.dialects.sse import Framer
from polyroute.mesh.errors import MeshError
from tests.outbound import check_answer, check_question, fault_name, golden, outcome, read

DIALECT = anthropic_messages.DIALECT
FOLDER = "anthropic_messages"


@golden(FOLDER, "upstream")
def test_a_question_is_written(case: Path) -> None:
    """The vendor gets what was written down by hand."""
    check_question(DIALECT, case)


@golden(FOLDER, "response")
def test_an_answer_is_read(case: Path) -> None:
    """What is read is what was written down by hand, in one piece and byte by byte."""
    check_answer(DIALECT, case)


def metered_of(raw: bytes) -> tuple[Metered, str]:
    """What a meter reads of a stream, and the fault that ended it."""
    framer, meter = Framer(), DIALECT.meter(hide_usage=True)
    try:
        return meter.feed(framer.feed(raw) + framer.flush()), ""
    except BrokenStreamError as error:
        return error.metered or Metered(), fault_name(error)


@golden(FOLDER, "response")
def test_the_meter_reads_the_same_in_passing(case: Path) -> None:
    """The meter sees the same usage, finish reason and fault, and passes on what reads the same."""
    if not (case / "response.sse").exists() or case.name == "whole_in_a_stream":
        return
    raw = (case / "response.sse").read_bytes()
    events, fault = outcome(DIALECT, [raw], ".sse")
    response = assemble(events)

    metered, broken = metered_of(raw)

    assert (fault if fault != "TRUNCATED" else "") == broken
    if not fault:
        assert metered.usage == (response.usage if response.HasField("usage") else None)
        assert metered.finish == response.choices[0].finish_reason
    spoke = any(choice.message.parts for choice in response.choices)
    assert bool(metered.content_events) == bool(metered.text_chars) == spoke
    assert metered.data.count(b"event: ") == metered.data.count(b"\n\n") == metered.data.count(b"\ndata: ")
    if fault not in ("SERVER", "BAD_ANSWER"):
        assert outcome(DIALECT, [metered.data], ".sse") == (events, fault)


@golden(FOLDER, "response")
def test_an_answer_survives_being_written(case: Path) -> None:
    """Answer -> stream -> answer changes nothing; nor does the unary form, but for white space in arguments."""
    [path] = case.glob("response.*")
    response, fault = read(DIALECT, path.read_bytes(), path.suffix)
    if fault:
        return
    writer = DIALECT.writer(request_id="r", model=response.model, include_usage=True)

    stream = writer.feed(take_apart(response))
    whole = DIALECT.read_answer(DIALECT.write_answer(response, request_id="r", model=response.model))

    for again in (assemble(outcome(DIALECT, [stream], ".sse")[0]), whole):
        assert [kept(choice) for choice in response.choices] == [kept(choice) for choice in again.choices]
        assert response.usage == again.usage
        assert response.extensions == again.extensions


def kept(choice: pb.Choice) -> pb.Choice:
    """A choice with arguments as plain JSON, and calls as the reason to stop where there are some."""
    copy = pb.Choice()
    copy.CopyFrom(choice)
    for part in copy.message.parts:
        if part.HasField("tool_call"):
            part.tool_call.arguments = json.dumps(json.loads(part.tool_call.arguments))
    if copy.finish_reason == pb.FINISH_REASON_TOOL_CALLS:
        copy.vendor_finish_reason = "tool_use"
    return copy


@golden(FOLDER, "response")
def test_metering_a_whole_answer_reads_the_same(case: Path) -> None:
    """Usage, finish reason and fault of a whole answer in passing are those of reading it."""
    if not (case / "response.json").exists():
        return
    raw = (case / "response.json").read_bytes()
    response, fault = read(DIALECT, raw, ".json")
    if fault:
        with pytest.raises(MeshError) as caught:
            DIALECT.read_answer_facts(raw)
        assert fault == fault_name(caught.value)
        return

    usage, finish, chars = DIALECT.read_answer_facts(raw)

    assert response.usage == usage
    assert response.choices[0].finish_reason == finish
    assert bool(response.choices[0].message.parts) == bool(chars)
