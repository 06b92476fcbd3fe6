"""Golden cases of `gemini.generate`: what vendors must get, what they answer, and what becomes of it in passing."""

from pathlib import Path

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.dialects import gemini_generate
from polyroute.dialects.dialect import BrokenStreamError, Metered
from polyroute.dialects.events import assemble, take_apart
from polyroute.dialects.gemini.framing import GeminiFramer
from polyroute.mesh.errors import MeshError
from tests.outbound import check_answer, check_question, fault_name, golden, outcome, read

DIALECT = gemini_generate.DIALECT
FOLDER = "gemini_generate"


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
    framer, meter = GeminiFramer(), DIALECT.meter(hide_usage=True)
    try:
        return meter.feed(framer.feed(raw) + framer.flush()), ""
    except BrokenStreamError as error:
        return error.metered or Metered(), fault_name(error)
    except MeshError as error:
        return Metered(), fault_name(error)


@golden(FOLDER, "response")
def test_the_meter_reads_the_same_in_passing(case: Path) -> None:
    """The meter sees the same usage, finish reason and fault, and passes on what reads the same."""
    if not (case / "response.sse").exists():
        return
    raw = (case / "response.sse").read_bytes()
    events, fault = outcome(DIALECT, [raw], ".sse")
    response = assemble(events)

    metered, broken = metered_of(raw)

    assert broken in (fault, "") if case.name.endswith("_nowhere") else broken == fault.replace("TRUNCATED", "")
    if not fault:
        assert metered.usage == (response.usage if response.HasField("usage") else None)
        assert metered.finish == response.choices[0].finish_reason
        assert outcome(DIALECT, [metered.data], ".sse") == (events, fault)
    spoke = any(choice.message.parts for choice in response.choices)
    assert bool(metered.content_events) == bool(metered.text_chars) == spoke
    assert b"\r" not in metered.data


@golden(FOLDER, "response")
def test_an_answer_survives_being_written(case: Path) -> None:
    """Answer -> stream -> answer changes nothing; nor does the unary form."""
    [path] = case.glob("response.*")
    response, fault = read(DIALECT, path.read_bytes(), path.suffix)
    if fault:
        return
    writer = DIALECT.writer(request_id=response.id, model=response.model, include_usage=True)

    stream = writer.feed(take_apart(response))
    whole = DIALECT.read_answer(DIALECT.write_answer(response, request_id=response.id, model=response.model))

    for again in (assemble(outcome(DIALECT, [stream], ".sse")[0]), whole):
        assert [kept(choice) for choice in response.choices] == [kept(choice) for choice in again.choices]
        assert response.usage == again.usage
        assert response.extensions == again.extensions


def kept(choice: pb.Choice) -> pb.Choice:
    """A choice without a word for its end that this format does not know."""
    copy = pb.Choice()
    copy.CopyFrom(choice)
    if copy.finish_reason in (pb.FINISH_REASON_OTHER, pb.FINISH_REASON_CONTENT_FILTER):
        copy.vendor_finish_reason = ""
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

    assert (response.usage if response.HasField("usage") else None) == usage
    assert response.choices[0].finish_reason == finish
    assert bool(response.choices[0].message.parts) == bool(chars)
