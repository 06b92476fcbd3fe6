"""Hand-written answers of `bedrock.converse`, one per shape that breaks naive code.

A case is a folder: `response.events` (one event a line: its name and its JSON), `response.json` or both, which then say
the same, and `expected.json` with what must be read, where a member that is absent means: nothing of it.
"""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.bedrock.framing import EventStreamFramer
from polyroute.dialects.bedrock_converse import OUTBOUND
from polyroute.dialects.dialect import BrokenStreamError
from polyroute.dialects.events import assemble
from polyroute.mesh.errors import MeshError
from tests.unit.dialects.bedrock import eventstream

CASES = sorted((Path(__file__).parents[3] / "golden" / "bedrock_converse").iterdir())
USAGE = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")


def having(name: str) -> pytest.MarkDecorator:
    """A parameter over the cases that have a file."""
    found = [case for case in CASES if (case / name).exists()]
    return pytest.mark.parametrize("case", found, ids=[case.name for case in found])


def raw_of(case: Path) -> bytes:
    """A case's stream as the vendor sends it."""
    return eventstream.stream(eventstream.lines((case / "response.events").read_text()))


def read_stream(pieces: list[bytes]) -> tuple[pb.ChatResponse, MeshError | None]:
    """The answer in these pieces as far as it can be read, and the error that ended it."""
    framer, reader = EventStreamFramer(), OUTBOUND.reader()
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


def read_whole(body: bytes) -> tuple[pb.ChatResponse, MeshError | None]:
    """A whole answer, or the error that it is."""
    try:
        return OUTBOUND.read_answer(body), None
    except MeshError as error:
        return pb.ChatResponse(), error


def seen(response: pb.ChatResponse, error: MeshError | None, expected: dict[str, Any]) -> dict[str, Any]:
    """What was read in the terms of `expected.json`."""
    out: dict[str, Any] = {}
    if error:
        out["fault"] = errors_pb2.Fault.Name(error.fault).removeprefix("FAULT_")
        out |= {"vendor_code": error.metadata["vendor_code"]} if "vendor_code" in expected else {}
        out |= {"message": error.message} if "message" in expected else {}
    for choice in response.choices:
        out |= of_choice(choice, expected, complete=error is None)
    if response.HasField("usage"):
        out["usage"] = {name: getattr(response.usage, name) for name in USAGE if getattr(response.usage, name)}
        out["usage"] |= {"other": dict(response.usage.other)} if response.usage.other else {}
    if response.extensions:
        out["extensions"] = {name: json.loads(raw) for name, raw in response.extensions.items()}
    return out


def of_choice(choice: pb.Choice, expected: dict[str, Any], *, complete: bool) -> dict[str, Any]:
    """The answer in the terms of `expected.json`."""
    parts = choice.message.parts
    found: dict[str, Any] = {
        "text": "".join(part.text.text for part in parts),
        "reasoning": "".join(part.reasoning.text for part in parts),
        "tool_calls": [of_call(part.tool_call, expected) for part in parts if part.HasField("tool_call")],
        "seals": [of_seal(part) for part in parts if part.HasField("state")],
        "message_extensions": {name: json.loads(raw) for name, raw in choice.message.extensions.items()},
    }
    out = {name: value for name, value in found.items() if value}
    if complete:
        out["finish"] = pb.FinishReason.Name(choice.finish_reason).removeprefix("FINISH_REASON_")
        out["vendor_finish"] = choice.vendor_finish_reason
    return out


def of_call(call: pb.ToolCall, expected: dict[str, Any]) -> dict[str, str]:
    """A tool call; an id that was made up is `*`."""
    made = any(wanted["id"] == "*" for wanted in expected["tool_calls"]) and call.id.startswith("call_")
    return {"id": "*" if made else call.id, "name": call.name, "arguments": call.arguments}


def of_seal(part: pb.Part) -> list[str]:
    """The kind of a seal, and what stood on the wire."""
    redacted = part.state.kind == "redactedContent"
    assert redacted == part.reasoning.redacted
    assert part.state.dialect == "bedrock.converse"
    return [part.state.kind, base64.b64encode(part.state.data).decode() if redacted else part.state.data.decode()]


def expected_of(case: Path) -> dict[str, Any]:
    """What must be read."""
    value: dict[str, Any] = json.loads((case / "expected.json").read_text())
    return value


@having("response.events")
def test_a_stream_is_read(case: Path) -> None:
    """What is read of a stream is what was written down by hand."""
    expected = expected_of(case)

    assert expected == seen(*read_stream([raw_of(case)]), expected)


@having("response.events")
def test_single_bytes_give_the_same(case: Path) -> None:
    """A stream that arrives byte by byte reads the same."""
    raw = raw_of(case)
    whole, error = read_stream([raw])

    pieces, other = read_stream([raw[place : place + 1] for place in range(len(raw))])

    assert whole == pieces
    assert str(error) == str(other)


def fed(events: list[tuple[str, bytes]]) -> tuple[pb.ChatResponse, MeshError | None]:
    """The answer in these events, or the error that ended it."""
    reader = OUTBOUND.reader()
    try:
        return assemble([*reader.feed(events), *reader.finish()]), None
    except MeshError as error:
        return pb.ChatResponse(), error


@having("response.events")
def test_events_by_name_in_one_object_read_the_same(case: Path) -> None:
    """The form `{"name": {...}}`, in which some stores keep streams, reads like the binary one."""
    lines = eventstream.lines((case / "response.events").read_text())
    whole, error = read_stream([raw_of(case)])

    again, other = fed([("", json.dumps({name: value}).encode()) for name, value in lines])

    assert str(error) == str(other)
    assert other is not None or whole == again


@having("response.json")
def test_a_whole_answer_is_read(case: Path) -> None:
    """What is read of a whole answer is what was written down by hand."""
    expected = expected_of(case)

    assert expected == seen(*read_whole((case / "response.json").read_bytes()), expected)


@having("response.json")
def test_a_whole_answer_may_come_where_a_stream_was_asked_for(case: Path) -> None:
    """Fed to a stream's reader as one event, it reads the same."""
    body = (case / "response.json").read_bytes()
    whole, error = read_whole(body)

    again, other = fed([("", body)])

    assert (error is None) == (other is None)
    assert other is not None or whole == again
