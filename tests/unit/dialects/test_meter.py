"""Metering what passes in a stream, and whole answers in passing."""

import json
from typing import Any

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import openai_chat
from polyroute.dialects.dialect import BrokenStreamError, Metered
from polyroute.mesh.errors import MeshError

CHAT = openai_chat.DIALECT
DONE = ("", b"[DONE]")


def event(text: str = "", **members: Any) -> tuple[str, bytes]:
    """An event with text, as vendors write it."""
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return "", json.dumps({"id": "c", "choices": choices, **members}, separators=(",", ":")).encode()


def metered(*events: tuple[str, bytes], hide_usage: bool = False) -> Metered:
    """What a meter reads of these events at once."""
    return CHAT.meter(hide_usage=hide_usage).feed(list(events))


def test_what_passes_is_what_came() -> None:
    """The same bytes, framed canonically, without the end marker; what follows it is gone."""
    one, two = event("Hello"), event("", usage=None)

    found = metered(one, two, DONE, event("late"))

    assert b"data: " + one[1] + b"\n\ndata: " + two[1] + b"\n\n" == found.data
    assert (1, 5, True) == (found.content_events, found.text_chars, found.done)


def test_nothing_in_is_nothing_out() -> None:
    """An empty batch, or the end marker alone, passes nothing on."""
    assert Metered() == metered()
    assert Metered(done=True) == metered(DONE)


def test_usage_is_read_and_stays() -> None:
    """The latest usage counts; zeros say nothing."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}

    found = metered(event("a", usage={**usage, "completion_tokens": 1}), event("b", usage=usage), event(usage=zero))

    assert pb.Usage(input_tokens=3, output_tokens=2) == found.usage
    assert found.data.count(b'"usage"') == 3


def test_hidden_usage_leaves_no_trace() -> None:
    """Without `usage: null`, without the event for usage alone; the words stay."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    events = [event("Hel", usage=None), event("lo", usage=None), event(choices=[], usage=usage)]

    found = metered(*events, hide_usage=True)

    assert b"data: " + event("Hel")[1] + b"\n\ndata: " + event("lo")[1] + b"\n\n" == found.data
    assert pb.Usage(input_tokens=3, output_tokens=2) == found.usage


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"choices":[],"usage": null}', b'{"choices":[]}'),
        (b'{"usage":null,"choices":[]}', b'{"choices":[]}'),
        (b'{"x":{"a":1,"usage":null},"usage":null,"choices":[]}', b'{"x":{"a":1,"usage":null},"choices":[]}'),
        (b'{"x":{"a":1,"usage":null},"choices":[]}', b'{"x":{"a":1,"usage":null},"choices":[]}'),
    ],
)
def test_only_the_top_level_usage_is_hidden(before: bytes, after: bytes) -> None:
    """However it is written; a member of that name elsewhere belongs to someone else."""
    text = event('say ,"usage":null', usage=None)

    found = metered(("", before), text, hide_usage=True)

    assert b"data: " + after + b"\n\ndata: " + event('say ,"usage":null')[1] + b"\n\n" == found.data


@pytest.mark.parametrize(
    ("delta", "content"),
    [
        ({"role": "assistant"}, 0),
        ({"role": "assistant", "content": ""}, 0),
        ({"content": None, "tool_calls": []}, 0),
        ({"audio": None, "function_call": None}, 0),
        ({"reasoning_content": ""}, 0),
        ({"content": "x"}, 1),
        ({"reasoning_content": "x"}, 1),
        ({"reasoning": "x", "content": None}, 1),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}, 1),
        ({"refusal": "x"}, 1),
        ({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}, 1),
        ({"tool_calls": [{"index": 0, "custom": {"name": "f", "input": "x"}}]}, 1),
        ({"function_call": {"name": "f"}}, 1),
        ({"audio": {"id": "a", "data": "AAAA"}}, 1),
        ({"content": [{"type": "text", "text": "x"}]}, 1),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "x"}]}]}, 1),
        ({"content": []}, 0),
    ],
)
def test_what_is_content(delta: dict[str, Any], content: int) -> None:
    """Text, reasoning, calls, refusals and sound commit a stream; openings and empties do not."""
    assert content == metered(event(choices=[{"index": 0, "delta": delta}])).content_events


def test_the_finish_reason_is_of_the_first_choice() -> None:
    """Another choice's end is not the stream's; tool calls decide over stop, also batches later."""
    meter = CHAT.meter(hide_usage=False)
    call = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]}

    reasons = [
        meter.feed([event(choices=[{"index": index, "delta": delta, "finish_reason": word}])]).finish
        for index, delta, word in ((0, call, None), (1, {}, "length"), (0, {}, ""), (0, {}, "stop"))
    ]

    none = pb.FINISH_REASON_UNSPECIFIED
    assert [none, none, none, pb.FINISH_REASON_TOOL_CALLS] == reasons


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (event(error={"code": 429, "message": "slow"}), errors_pb2.FAULT_RATE),
        (("error", b'{"message":"no"}'), errors_pb2.FAULT_BAD_ANSWER),
        (("", b'{"error":"boom"}'), errors_pb2.FAULT_BAD_ANSWER),
        (("", b'{"choices":'), errors_pb2.FAULT_BAD_ANSWER),
        (("", b"[]"), errors_pb2.FAULT_BAD_ANSWER),
        (("", b"\xff"), errors_pb2.FAULT_BAD_ANSWER),
        (("", b"[" * 100_000), errors_pb2.FAULT_BAD_ANSWER),
    ],
)
def test_a_break_keeps_what_came_before(bad: tuple[str, bytes], fault: int) -> None:
    """An error or broken JSON is raised with its class, and the events before it are not lost."""
    with pytest.raises(BrokenStreamError) as caught:
        metered(event("Hello"), bad)

    assert fault == caught.value.fault
    assert caught.value.metered
    assert (1, b"data: " + event("Hello")[1] + b"\n\n") == (
        caught.value.metered.content_events,
        caught.value.metered.data,
    )


def test_null_errors_and_names_are_nothing() -> None:
    """`error: null` and an event name other than `error` pass."""
    assert metered(event("a", error=None), ("message", event("b")[1])).content_events == 2


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", errors_pb2.FAULT_BAD_ANSWER),
        (b"\n\n ", errors_pb2.FAULT_BAD_ANSWER),
        (b"<html></html>", errors_pb2.FAULT_BAD_ANSWER),
        (b"[]", errors_pb2.FAULT_BAD_ANSWER),
        (b'{"choices":null}', errors_pb2.FAULT_BAD_ANSWER),
        (b'{"choices":[]}', errors_pb2.FAULT_BAD_ANSWER),
        (b'{"choices":[null]}', errors_pb2.FAULT_BAD_ANSWER),
        (b'{"error":{"message":"x","code":503}}', errors_pb2.FAULT_SERVER),
        (b'{"error":{"message":"x","code":503},"choices":[{"message":{"content":"x"}}]}', errors_pb2.FAULT_SERVER),
        (b'{"code":"rate_limit_exceeded","message":"x"}', errors_pb2.FAULT_RATE),
    ],
)
def test_what_is_no_answer(body: bytes, fault: int) -> None:
    """Errors under a 200, pages, nothing and broken JSON are faults, in passing and when read."""
    for read in (CHAT.read_answer_facts, CHAT.read_answer):
        with pytest.raises(MeshError) as caught:
            read(body)

        assert fault == caught.value.fault


@pytest.mark.parametrize("index", ["0", '"0"', "null"])
def test_answer_facts(index: str) -> None:
    """Usage, finish reason and size, also where the shape is odd."""
    body = (
        b'\n {"error":null,"choices":[{"index":' + index.encode() + b',"message":{"content":"Hello","refusal":null},'
        b'"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n'
    )

    found = CHAT.read_answer_facts(body)

    assert (pb.Usage(input_tokens=3, output_tokens=2), pb.FINISH_REASON_LENGTH, 5) == found
