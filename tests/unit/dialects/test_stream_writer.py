"""Steps of an answer as a stream for clients."""

import json
from typing import Any

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.dialects import openai_chat, openai_completions
from polyroute.dialects.sse import Framer

REQUEST_ID = "018bcfe5-6800-7000-8000-000000000000"
USAGE = pb.Usage(input_tokens=3, output_tokens=2)
STEPS = [
    pb.ChatEvent(start=pb.AnswerStart(id="x", model="y")),
    pb.ChatEvent(text=pb.TextDelta(text="Hel")),
    pb.ChatEvent(text=pb.TextDelta(text="lo")),
    pb.ChatEvent(finished=pb.ChoiceFinished(reason=pb.FINISH_REASON_LENGTH)),
    pb.ChatEvent(usage=USAGE),
]


def chunks(stream: bytes) -> list[dict[str, Any]]:
    """The events as JSON."""
    return [json.loads(data) for _, data in Framer().feed(stream)]


def written(steps: list[pb.ChatEvent], *, include_usage: bool = False) -> list[dict[str, Any]]:
    """The events that these steps make."""
    writer = openai_chat.DIALECT.writer(request_id=REQUEST_ID, model="m", include_usage=include_usage)
    return chunks(b"".join(writer.feed([step]) for step in steps))


def test_a_plain_stream() -> None:
    """The role comes first and once, the reason last, and every event has a choice and no usage."""
    found = written(STEPS)

    deltas = [chunk["choices"][0]["delta"] for chunk in found]
    assert [{"role": "assistant", "content": ""}, {"content": "Hel"}, {"content": "lo"}, {}] == deltas
    assert [None, None, None, "length"] == [chunk["choices"][0]["finish_reason"] for chunk in found]
    assert not any("usage" in chunk for chunk in found)
    assert {("chatcmpl-" + REQUEST_ID, "chat.completion.chunk", 1_700_000_000, "m")} == {
        (chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in found
    }


def test_usage_comes_last_and_only_when_asked_for() -> None:
    """Other events carry `usage: null`; the last has no choice."""
    found = written(STEPS, include_usage=True)

    assert [None] * 4 == [chunk["usage"] for chunk in found[:-1]]
    assert ([], 3, 2, 5) == (
        found[-1]["choices"],
        found[-1]["usage"]["prompt_tokens"],
        found[-1]["usage"]["completion_tokens"],
        found[-1]["usage"]["total_tokens"],
    )


def test_every_choice_opens_with_its_role() -> None:
    """Also without a start, and with a call as the first step."""
    steps = [
        pb.ChatEvent(choice=1, text=pb.TextDelta(text="a")),
        pb.ChatEvent(tool_call=pb.ToolCallDelta(id="c", name="f", kind=pb.TOOL_KIND_FUNCTION)),
        pb.ChatEvent(tool_call=pb.ToolCallDelta(arguments="{}")),
    ]

    found = [chunk["choices"][0] for chunk in written(steps)]

    function = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    assert [
        (1, {"role": "assistant", "content": "a"}),
        (0, {"role": "assistant", "tool_calls": [function]}),
        (0, {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
    ] == [(choice["index"], choice["delta"]) for choice in found]


def test_completions_write_words_only() -> None:
    """The older form has text, a reason and usage, and nothing for what it does not know."""
    writer = openai_completions.DIALECT.writer(request_id=REQUEST_ID, model="m", include_usage=True)
    steps = [*STEPS[:1], pb.ChatEvent(reasoning=pb.ReasoningDelta(text="hm")), *STEPS[1:]]

    found = chunks(writer.feed(steps))

    assert ["Hel", "lo", ""] == [chunk["choices"][0]["text"] for chunk in found[:-1]]
    assert {"text_completion"} == {chunk["object"] for chunk in found}
    assert found[-1]["usage"]["total_tokens"] == 5


def test_framing_is_what_simple_clients_cut() -> None:
    """LF only, no event names, one line of data each."""
    writer = openai_chat.DIALECT.writer(request_id="r", model="m", include_usage=False)

    stream = writer.feed([pb.ChatEvent(text=pb.TextDelta(text="a\r\nb\n\n"))])

    assert stream.startswith(b"data: {")
    assert stream.endswith(b"}\n\n")
    assert stream.count(b"\n") == 2
    assert b"\r" not in stream
