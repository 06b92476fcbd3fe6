"""Steps of any dialect as named events: the order of blocks, and what has no place in them."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent
from polyroute.dialects import anthropic_messages
from polyroute.dialects.events import assemble
from polyroute.dialects.sse import Framer

DIALECT = anthropic_messages.DIALECT
FINISHED = ChatEvent(finished=pb.ChoiceFinished(reason=pb.FINISH_REASON_STOP, vendor_reason="stop"))


def text(words: str) -> ChatEvent:
    """A piece of text."""
    return ChatEvent(text=pb.TextDelta(text=words))


def call(index: int, arguments: str = "", name: str = "") -> ChatEvent:
    """A piece of a call; the first has a name."""
    step = pb.ToolCallDelta(index=index, arguments=arguments, name=name, id=f"id_{index}" if name else "")
    return ChatEvent(tool_call=step)


def written(*batches: list[ChatEvent]) -> list[dict[str, Any]]:
    """The events of a stream, their names checked against their types."""
    writer = DIALECT.writer(request_id="r", model="m", include_usage=False)
    events = Framer().feed(b"".join(writer.feed(batch) for batch in batches))
    values = [json.loads(data) for _, data in events]
    assert [name for name, _ in events] == [value["type"] for value in values]
    return values


def in_short(values: list[dict[str, Any]]) -> list[str]:
    """Blocks by kind and place, pieces by their words."""
    out = []
    for value in values:
        if value["type"] == "content_block_start":
            out.append(f"{value['index']}:{value['content_block']['type']}")
        elif value["type"] == "content_block_delta":
            delta = value["delta"]
            out.append(delta.get("text") or delta.get("thinking") or delta.get("partial_json") or "seal")
        elif value["type"] == "content_block_stop":
            out.append(f"/{value['index']}")
    return out


def test_a_plain_stream() -> None:
    """Begin, one block, its pieces, the end with reason and usage, the closing event."""
    usage = pb.Usage(input_tokens=3, cache_read_tokens=4, output_tokens=5, reasoning_tokens=6)

    values = written(
        [ChatEvent(start=pb.AnswerStart(id="x", model="y"))], [text("a"), text("b")], [FINISHED, ChatEvent(usage=usage)]
    )

    kinds = [value["type"] for value in values]
    assert ["message_start", "content_block_start", *["content_block_delta"] * 2] == kinds[:4]
    assert ["content_block_stop", "message_delta", "message_stop"] == kinds[4:]
    assert ("msg_r", "m", []) == tuple(values[0]["message"][name] for name in ("id", "model", "content"))
    assert {"stop_reason": "end_turn", "stop_sequence": None} == values[-2]["delta"]
    assert (3, 4, 0, 11, 6) == (
        values[-2]["usage"]["input_tokens"],
        values[-2]["usage"]["cache_read_input_tokens"],
        values[-2]["usage"]["cache_creation_input_tokens"],
        values[-2]["usage"]["output_tokens"],
        values[-2]["usage"]["output_tokens_details"]["thinking_tokens"],
    )


def test_an_answer_without_usage_is_closed_as_well() -> None:
    """Some vendors count nothing."""
    values = written([text("a"), FINISHED])

    assert ["message_start", "message_delta", "message_stop"] == [
        value["type"] for value in values if value["type"].startswith("message")
    ]
    assert written([text("a")], [FINISHED], [text("late"), FINISHED]) == values


def test_each_kind_has_its_block() -> None:
    """Another kind of step ends the block; unsealed thinking ends with a mark."""
    values = written([ChatEvent(reasoning=pb.ReasoningDelta(text="hm")), text("a"), call(0, name="f"), FINISHED])

    assert ["0:thinking", "hm", "seal", "/0", "1:text", "a", "/1", "2:tool_use", "/2"] == in_short(values)


def test_calls_in_turn_are_told_as_they_come() -> None:
    """A call that is whole ends when the next begins."""
    values = written([call(0, name="f"), call(0, "{"), call(0, "}")], [call(1, name="g"), call(1, "{}")])

    assert ["0:tool_use", "{", "}", "/0", "1:tool_use", "{}"] == in_short(values)


def test_calls_across_each_other_wait() -> None:
    """Pieces of a second call wait until the first is whole."""
    pieces = [call(0, name="f"), call(1, name="g"), call(0, '{"a":'), call(1, '{"b":'), call(0, "1}"), call(1, "2}")]

    values = written(pieces, [FINISHED])

    assert ["0:tool_use", '{"a":', "1}", "/0", "1:tool_use", '{"b":', "2}", "/1"] == in_short(values)


def test_other_choices_have_no_place() -> None:
    """The format knows one answer."""
    values = written([text("a"), ChatEvent(choice=1, text=pb.TextDelta(text="b")), FINISHED])

    assert ["0:text", "a", "/0"] == in_short(values)


def test_refusals_and_spoken_words_are_text() -> None:
    """What the format has no block for is told in words where it has any."""
    spoken = ChatEvent(audio=pb.AudioDelta(data=b"\x00", transcript="hey"))

    values = written([ChatEvent(refusal=pb.RefusalDelta(text="No."))], [spoken, ChatEvent(logprobs=b"{}"), FINISHED])

    assert ["0:text", "No.", "hey", "/0"] == in_short(values)


STEPS = st.one_of(
    st.text(max_size=3).map(text),
    st.text(max_size=3).map(lambda words: ChatEvent(reasoning=pb.ReasoningDelta(text=words))),
    st.builds(
        lambda kind, dialect: ChatEvent(
            reasoning=pb.ReasoningDelta(state=pb.VendorState(dialect=dialect, kind=kind, data=b'{"type":"x"}'))
        ),
        st.sampled_from(["signature", "content_block"]),
        st.sampled_from(["anthropic.messages", "other"]),
    ),
    st.builds(lambda number: call(number, "{}", "f"), st.integers(0, 2)),
)


@given(st.lists(STEPS, max_size=8))
def test_blocks_are_always_in_order(steps: list[ChatEvent]) -> None:
    """Whatever comes, blocks count up from 0, and each ends before the next begins; the words stay."""
    values = written(steps, [FINISHED])

    open_block, last = None, -1
    for value in values:
        if value["type"] == "content_block_start":
            assert (None, last + 1) == (open_block, value["index"])
            open_block = last = value["index"]
        elif value["type"].startswith("content_block"):
            assert open_block == value["index"]
            open_block = None if value["type"] == "content_block_stop" else open_block
    assert open_block is None
    assert "message_stop" == values[-1]["type"]
    reader = DIALECT.reader()
    data = [("", json.dumps(value).encode()) for value in values]
    again = assemble([*reader.feed(data), *reader.finish()])
    told = "".join(step.text.text + step.reasoning.text for step in steps if not step.HasField("tool_call"))
    words = "".join(
        part.text.text + part.reasoning.text
        for part in again.choices[0].message.parts
        if not part.HasField("tool_call")
    )
    assert told == words
