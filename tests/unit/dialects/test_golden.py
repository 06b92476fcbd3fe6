"""Hand-written cases, one per shape that breaks naive code: bytes in, messages out and back.

A case is a folder: `request.json` as a client sends it, `response.sse` or `response.json` as a vendor answers, and
`expected.json` with what must be read, where a member that is absent means: nothing of it.
"""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import openai_chat
from polyroute.dialects.dialect import BrokenStreamError, Metered
from polyroute.dialects.events import assemble, take_apart
from polyroute.dialects.sse import Framer
from polyroute.mesh.errors import MeshError

CASES = sorted((Path(__file__).parents[2] / "golden" / "openai_chat").iterdir())
DIALECT = openai_chat.DIALECT
USAGE = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")

every_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
every_stream = pytest.mark.parametrize(
    "case",
    [case for case in CASES if (case / "response.sse").exists()],
    ids=[case.name for case in CASES if (case / "response.sse").exists()],
)


def read(case: Path, pieces: list[bytes]) -> tuple[pb.ChatResponse, MeshError | None]:
    """The answer in these pieces as far as it can be read, and the error that ended it."""
    if (case / "response.json").exists():
        try:
            return DIALECT.read_answer(b"".join(pieces)), None
        except MeshError as error:
            return pb.ChatResponse(), error
    framer, reader = Framer(), DIALECT.reader()
    events: list[pb.ChatEvent] = []
    try:
        for piece in pieces:
            events += reader.feed(framer.feed(piece))
        events += reader.feed(framer.flush())
        events += reader.finish()
    except BrokenStreamError as error:
        return assemble([*events, *error.events]), error
    except MeshError as error:
        return assemble(events), error
    return assemble(events), None


def raw_of(case: Path) -> bytes:
    """The vendor's bytes."""
    stream = case / "response.sse"
    return stream.read_bytes() if stream.exists() else (case / "response.json").read_bytes()


def expected_of(case: Path) -> dict[str, Any]:
    """What must be read."""
    value: dict[str, Any] = json.loads((case / "expected.json").read_text())
    return value


def seen(response: pb.ChatResponse, error: MeshError | None, expected: dict[str, Any]) -> dict[str, Any]:
    """The answer in the terms of `expected.json`."""
    out: dict[str, Any] = {}
    if error:
        out["fault"] = errors_pb2.Fault.Name(error.fault).removeprefix("FAULT_")
        out |= {name: error.metadata[name] for name in ("vendor_code",) if name in expected}
        out |= {"message": error.message} if "message" in expected else {}
    choices = list(response.choices)
    if choices:
        out |= of_choice(choices[0], expected, complete=error is None)
    if choices[1:]:
        out["others"] = {str(choice.index): text_of(choice.message) for choice in choices[1:]}
    if "others" not in expected:
        out.pop("others", None)
    if response.HasField("usage"):
        usage = {name: getattr(response.usage, name) for name in USAGE if getattr(response.usage, name)}
        out["usage"] = usage | ({"other": dict(response.usage.other)} if response.usage.other else {})
    if response.extensions:
        out["extensions"] = of_extensions(response.extensions)
    return out | ({"id": response.id} if "id" in expected else {})


def of_choice(choice: pb.Choice, expected: dict[str, Any], *, complete: bool) -> dict[str, Any]:
    """One choice in the terms of `expected.json`."""
    parts = choice.message.parts
    found: dict[str, Any] = {
        "text": text_of(choice.message),
        "reasoning": "".join(part.reasoning.text for part in parts),
        "refusal": "".join(part.refusal.text for part in parts),
        "tool_calls": [of_call(part.tool_call, place, expected) for place, part in enumerate(calls_of(parts))],
        "logprobs": json.loads(choice.logprobs or b"null"),
        "seals": [json.loads(part.state.data) for part in parts if part.HasField("state")],
        "choice_extensions": of_extensions(choice.extensions),
        "message_extensions": of_extensions(choice.message.extensions),
    }
    for part in parts:
        if part.HasField("audio"):
            sound = base64.b64encode(part.audio.media.data).decode()
            found["audio"] = {"id": part.audio.id, "transcript": part.audio.transcript, "data": sound}
    out = {name: value for name, value in found.items() if value}
    if complete:
        out["finish"] = pb.FinishReason.Name(choice.finish_reason).removeprefix("FINISH_REASON_")
        out |= {"vendor_finish": choice.vendor_finish_reason} if "vendor_finish" in expected else {}
    return out


def calls_of(parts: Any) -> list[pb.Part]:
    """The tool calls."""
    return [part for part in parts if part.HasField("tool_call")]


def of_call(call: pb.ToolCall, place: int, expected: dict[str, Any]) -> dict[str, str]:
    """A tool call; an id that was made up is `*`."""
    wanted = expected.get("tool_calls", [])[place : place + 1]
    made = bool(wanted) and wanted[0]["id"] == "*" and call.id.startswith("call_")
    kind = {"kind": "CUSTOM"} if call.kind == pb.TOOL_KIND_CUSTOM else {}
    return {"id": "*" if made else call.id, "name": call.name, "arguments": call.arguments} | kind


def text_of(message: pb.Message) -> str:
    """All its text."""
    return "".join(part.text.text for part in message.parts)


def of_extensions(extensions: Any) -> dict[str, Any]:
    """Extensions as values."""
    return {name: json.loads(raw) for name, raw in extensions.items()}


def without_metering(expected: dict[str, Any]) -> dict[str, Any]:
    """The members of `expected.json` that are about the answer."""
    return {name: value for name, value in expected.items() if name != "content_events"}


@every_case
def test_the_answer_is_read(case: Path) -> None:
    """What is read is what was written down by hand."""
    expected = expected_of(case)

    response, error = read(case, [raw_of(case)])

    assert without_metering(expected) == seen(response, error, expected)


@every_stream
def test_single_bytes_give_the_same(case: Path) -> None:
    """A stream that arrives byte by byte reads the same."""
    raw = raw_of(case)
    whole, error = read(case, [raw])

    pieces, other = read(case, [raw[place : place + 1] for place in range(len(raw))])

    assert whole == pieces
    assert str(error) == str(other)


def metered_of(raw: bytes) -> tuple[Metered | None, str]:
    """What a meter reads of a stream, None when not even its framing held, and the fault that ended it."""
    framer, meter = Framer(), DIALECT.meter(hide_usage=False)
    try:
        return meter.feed(framer.feed(raw) + framer.flush()), ""
    except MeshError as error:
        fault = errors_pb2.Fault.Name(error.fault).removeprefix("FAULT_")
        return (error.metered if isinstance(error, BrokenStreamError) else None), fault


@every_stream
def test_the_meter_reads_the_same_in_passing(case: Path) -> None:
    """The meter sees the same content, usage, finish reason and fault, and passes on what reads the same."""
    expected = expected_of(case)
    raw = raw_of(case)
    metered, fault = metered_of(raw)
    if metered is None or fault:
        assert expected["fault"] == fault
    if metered is None:
        return

    response, _ = read(case, [raw])
    assert expected.get("content_events", 0) == metered.content_events
    assert bool(metered.content_events) == bool(metered.text_chars)
    assert metered.usage == (response.usage if response.HasField("usage") else None)
    if expected.get("vendor_finish") != "":
        name = pb.FinishReason.Name(metered.finish).removeprefix("FINISH_REASON_")
        assert expected.get("finish", name) == name
    assert b"\r" not in metered.data
    assert b"event:" not in metered.data
    assert metered.data.count(b"\n\n") * 2 == metered.data.count(b"\n")
    if "fault" not in expected:
        assert response == read(case, [metered.data + DIALECT.end_marker])[0]


@every_case
def test_the_answer_survives_being_written(case: Path) -> None:
    """Answer -> steps -> stream -> steps -> answer keeps words, calls, sound and usage; so does the unary form."""
    response, error = read(case, [raw_of(case)])
    if error:
        return
    events = take_apart(response)
    writer = DIALECT.writer(request_id="r", model="m", include_usage=True)
    reader, framer = DIALECT.reader(), Framer()

    stream = writer.feed(events) + DIALECT.end_marker
    streamed = assemble([*reader.feed(framer.feed(stream)), *reader.finish()])
    whole = DIALECT.read_answer(DIALECT.write_answer(response, request_id="r", model="m"))

    assert response == assemble(events)
    for again in (streamed, whole):
        assert [kept(choice) for choice in response.choices] == [kept(choice) for choice in again.choices]
        assert response.usage == again.usage
        assert response.extensions == again.extensions


def kept(choice: pb.Choice) -> tuple[Any, ...]:
    """What writing keeps: words by kind, calls, sound; a finish reason that the format has a word for."""
    parts = choice.message.parts
    words = [
        "".join(text for part in parts if (text := getattr(part, kind).text))
        for kind in ("text", "reasoning", "refusal")
    ]
    calls = [(part.tool_call.id, part.tool_call.name, part.tool_call.arguments) for part in calls_of(parts)]
    seals = [part.state.data for part in parts if part.HasField("state")]
    sound = [(part.audio.id, part.audio.media.data, part.audio.transcript) for part in parts if part.HasField("audio")]
    nameless = (pb.FINISH_REASON_UNSPECIFIED, pb.FINISH_REASON_OTHER)
    finish = pb.FINISH_REASON_STOP if choice.finish_reason in nameless else choice.finish_reason
    words.append(choice.logprobs.decode())
    return choice.index, words, calls, seals, sound, finish, dict(choice.message.extensions), dict(choice.extensions)


@every_case
def test_the_request_gives_facts_and_comes_back(case: Path) -> None:
    """The request is read at the door, patched in one place, and survives the typed form."""
    body = (case / "request.json").read_bytes()
    value = json.loads(body)
    facts = DIALECT.read_facts(body)
    request = DIALECT.read_request(body)

    patched = DIALECT.patch_request(body, facts, model="up-1", ask_usage=False)
    written, dropped = DIALECT.write_request(request, model="m", stream=facts.stream)

    assert (value["model"], value["stream"]) == (facts.model, facts.stream)
    assert bool(value.get("tools") or value.get("functions")) == (pb.CAPABILITY_TOOLS in facts.needs)
    assert body.replace(b'"model": "m"', b'"model": "up-1"') == patched
    assert not dropped
    assert request == DIALECT.read_request(written)
