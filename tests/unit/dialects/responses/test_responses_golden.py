"""Hand-written cases of `openai.responses`, one per shape that breaks naive code; `tests.outbound` says their form."""

import json
from pathlib import Path
from typing import Any

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.dialects import openai_responses
from polyroute.dialects.dialect import BrokenStreamError
from polyroute.dialects.events import assemble, take_apart
from polyroute.dialects.openai_responses import ResponsesMeter
from polyroute.dialects.sse import Framer
from polyroute.mesh.errors import MeshError
from tests.outbound import attempt, check_answer, check_cut, check_question, fault_name, golden, read

DIALECT = openai_responses.DIALECT
FOLDER = "openai_responses"


def raw_of(case: Path) -> tuple[bytes, str]:
    """The vendor's bytes and what they are."""
    [path] = case.glob("response.*")
    return path.read_bytes(), path.suffix


@golden(FOLDER, "request")
def test_a_question_is_written(case: Path) -> None:
    """The request of a case is written as it says."""
    check_question(DIALECT, case)


@golden(FOLDER, "response")
def test_an_answer_is_read(case: Path) -> None:
    """The answer of a case is read as it says, in one piece and byte by byte."""
    check_answer(DIALECT, case)


@golden(FOLDER, "response")
def test_a_cut_stream_is_never_complete(case: Path) -> None:
    """A stream that is cut anywhere before its last event ends with a fault."""
    raw, kind = raw_of(case)
    if kind == ".sse":
        endings = (
            "response.completed",
            "response.incomplete",
            '"object":"response","created_at":1700000000,"status":"c',
        )
        check_cut(DIALECT, raw, kind, lambda cut: any(word.encode() in cut for word in endings), case.name)


def metered(raw: bytes) -> tuple[ResponsesMeter, Any, str]:
    """The meter of a stream, what it read, and the fault that ended it."""
    framer, meter = Framer(), ResponsesMeter()
    try:
        return meter, meter.feed(framer.feed(raw) + framer.flush()), ""
    except BrokenStreamError as error:
        return meter, error.metered, fault_name(error)
    except MeshError as error:
        return meter, None, fault_name(error)


@golden(FOLDER, "response")
def test_the_meter_reads_the_same_in_passing(case: Path) -> None:
    """The meter sees the same usage, finish reason and fault, and passes on what reads the same."""
    raw, kind = raw_of(case)
    if kind != ".sse" or case.name == "whole_answer_in_an_event":
        return
    response, fault = read(DIALECT, raw, kind)
    _meter, seen, broken = metered(raw)

    if seen is None:
        assert fault == broken
        return
    assert fault in (broken, "TRUNCATED")
    assert seen.done == (not fault)
    if not fault:
        assert (seen.usage or pb.Usage(), seen.finish) == (response.usage, response.choices[0].finish_reason)
        assert response == read(DIALECT, seen.data, kind)[0]
    assert bool(seen.content_events) == any(said(part) for choice in response.choices for part in choice.message.parts)
    assert seen.data.count(b"event: ") == seen.data.count(b"data: ") == seen.data.count(b"\n\n")


def said(part: pb.Part) -> bool:
    """Whether a part is content."""
    return bool(part.text.text or part.refusal.text or part.reasoning.text or part.HasField("tool_call"))


@golden(FOLDER, "response")
def test_an_answer_is_the_same_in_passing(case: Path) -> None:
    """What metering reads of a whole answer is what reading it gives."""
    raw, kind = raw_of(case)
    if kind != ".json":
        return
    response, fault = read(DIALECT, raw, kind)
    facts, error = attempt(lambda: DIALECT.read_answer_facts(raw))

    assert fault == (fault_name(error) if error else "")
    if facts is None:
        return
    assert (facts.usage or pb.Usage(), facts.finish) == (response.usage, response.choices[0].finish_reason)
    assert bool(facts.text_chars) == any(said(part) for part in response.choices[0].message.parts)


@golden(FOLDER, "response")
def test_an_answer_survives_being_written(case: Path) -> None:
    """Answer -> answer, and answer -> steps -> stream -> steps -> answer, keep every part, its state and the usage."""
    raw, kind = raw_of(case)
    response, fault = read(DIALECT, raw, kind)
    if fault:
        return
    writer = DIALECT.writer(request_id="", model="up-1", include_usage=True)

    whole = DIALECT.read_answer(DIALECT.write_answer(response, request_id="", model="up-1"))
    streamed, broken = read(DIALECT, writer.feed(take_apart(response)), ".sse")

    assert not broken
    assert assemble(take_apart(response)) == response
    for again in (whole, streamed):
        assert (again.id, again.model, again.usage) == (response.id, response.model, response.usage)
        first, other = response.choices[0], again.choices[0]
        assert [parts_of(part) for part in first.message.parts] == [parts_of(part) for part in other.message.parts]
        if first.vendor_finish_reason != "queued":  # a stream cannot end while it goes on
            assert first.finish_reason == other.finish_reason
        assert first.logprobs == other.logprobs
        assert first.message.extensions == other.message.extensions
        told = json.loads(again.extensions["openai.responses"])
        assert json.loads(response.extensions.get("openai.responses", b"{}")).items() <= told.items()


def parts_of(part: pb.Part) -> tuple[Any, ...]:
    """A part with its state decoded, but for what writing adds: an id and a status where there were none."""
    state = json.loads(part.state.data) if part.HasField("state") else {}
    told = state.get("item", state)
    known = {
        name: value for name, value in told.items() if name not in ("status", "id") or told.get("encrypted_content")
    }
    bare = pb.Part()
    bare.CopyFrom(part)
    bare.ClearField("state")
    return part.WhichOneof("part"), bare.SerializeToString(deterministic=True), known, state.get("part")
