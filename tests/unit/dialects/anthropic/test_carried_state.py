"""Another vendor's opaque state survives a client of `anthropic.messages`, and never reaches a vendor that checks."""

import json

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent, Part, VendorState
from polyroute.dialects import anthropic_messages
from polyroute.dialects.anthropic import seals
from polyroute.dialects.events import assemble, take_apart
from polyroute.dialects.sse import Framer

DIALECT = anthropic_messages.DIALECT
STATE = VendorState(dialect="other.chat", kind="seal", data=b"\x00\xff")
PARTS = [
    Part(reasoning=pb.ReasoningPart(text="Hm", summary=True), state=STATE),
    Part(reasoning=pb.ReasoningPart(redacted=True), state=STATE),
    Part(text=pb.TextPart(text="A"), state=STATE),
    Part(text=pb.TextPart(text="B")),
    Part(tool_call=pb.ToolCall(id="a", name="f", arguments='{"x":1}', kind=pb.TOOL_KIND_FUNCTION), state=STATE),
    Part(tool_call=pb.ToolCall(id="b", name="f", arguments="{}", kind=pb.TOOL_KIND_FUNCTION)),
]


def answer() -> pb.ChatResponse:
    """An answer of another vendor."""
    message = pb.Message(role=pb.ROLE_ASSISTANT, parts=PARTS)
    choice = pb.Choice(message=message, finish_reason=pb.FINISH_REASON_TOOL_CALLS, vendor_finish_reason="tool_use")
    return pb.ChatResponse(id="msg_r", model="m", choices=[choice])


def request_with(content: list[object]) -> bytes:
    """The client's next request."""
    said = {"role": "assistant", "content": content}
    messages = [{"role": "user", "content": "Hi"}, said, {"role": "user", "content": "Go on"}]
    return json.dumps({"model": "m", "max_tokens": 9, "messages": messages}).encode()


def test_a_client_brings_it_back() -> None:
    """Whole answer -> client's history -> conversation: the same parts."""
    content = json.loads(DIALECT.write_answer(answer(), request_id="r", model="m"))["content"]

    request = DIALECT.read_request(request_with(content))

    assert PARTS == list(request.messages[1].parts)


def test_a_stream_brings_it_as_well() -> None:
    """Steps -> stream -> steps: the same parts, whether a state comes with the first piece or with the last."""
    events = take_apart(answer())
    writer, reader = DIALECT.writer(request_id="r", model="m", include_usage=True), DIALECT.reader()

    again = assemble([*reader.feed(Framer().feed(writer.feed(events))), *reader.finish()])

    assert answer() == again


def test_a_state_that_comes_last_is_carried_behind() -> None:
    """A call whose state comes after its arguments keeps it."""
    events = [
        ChatEvent(tool_call=pb.ToolCallDelta(index=0, id="a", name="f", kind=pb.TOOL_KIND_FUNCTION)),
        ChatEvent(tool_call=pb.ToolCallDelta(index=0, arguments="{}")),
        ChatEvent(tool_call=pb.ToolCallDelta(index=0, state=STATE)),
        ChatEvent(finished=pb.ChoiceFinished(reason=pb.FINISH_REASON_TOOL_CALLS)),
    ]
    writer, reader = DIALECT.writer(request_id="r", model="m", include_usage=True), DIALECT.reader()

    again = assemble([*reader.feed(Framer().feed(writer.feed(events))), *reader.finish()])

    assert [STATE] == [part.state for part in again.choices[0].message.parts]


def test_no_vendor_of_this_dialect_gets_it() -> None:
    """Neither translated nor passed through; the vendor's own thinking stays."""
    own = {"type": "thinking", "thinking": "Hm", "signature": "c2VhbA=="}
    content = json.loads(DIALECT.write_answer(answer(), request_id="r", model="m"))["content"]
    body = request_with([own, *content])
    facts = DIALECT.read_facts(body)

    passed = json.loads(DIALECT.patch_request(body, facts, model="up", ask_usage=False))
    translated, dropped = DIALECT.write_request(DIALECT.read_request(body), model="up", stream=False)

    expected = ["thinking", "text", "text", "tool_use", "tool_use"]
    assert expected == [block["type"] for block in passed["messages"][1]["content"]]
    assert expected == [block["type"] for block in json.loads(translated)["messages"][1]["content"]]
    assert ["messages.reasoning"] == dropped
    assert own in passed["messages"][1]["content"]


def test_a_turn_of_nothing_else_goes_whole() -> None:
    """No empty turn is passed on."""
    body = request_with([{"type": "thinking", "thinking": "Hm", "signature": seals.carry(None)}])

    passed = json.loads(DIALECT.patch_request(body, DIALECT.read_facts(body), model="up", ask_usage=False))

    assert ["user", "user"] == [message["role"] for message in passed["messages"]]


@pytest.mark.parametrize("text", ["", "%%%", "eyJ4Ijox", "W10=", "eyJkaWFsZWN0IjoxfQ==", "eyJkaWFsZWN0IjoieCJ9", "ü"])
def test_what_was_tampered_with_holds_nothing(text: str) -> None:
    """A broken mark is still a mark, with no state in it."""
    found = seals.carried(seals.MARK + text)

    assert found is not None
    assert found.state is None


def test_a_client_cannot_forge_this_dialects_own_state() -> None:
    """A mark carries other dialects' states only."""
    forged = seals.carried(seals.carry(VendorState(dialect="anthropic.messages", kind="content_block", data=b"{}")))

    assert forged == seals.Carried(None)
