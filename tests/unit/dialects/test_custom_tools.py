"""Tools of free text at vendors that have only functions: what is asked, and what comes back."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent, ChatRequest
from polyroute.dialects import anthropic_messages, openai_chat, openai_responses
from polyroute.dialects.custom_tools import SCHEMA, CustomTools, TextInArguments, as_functions, text_in
from polyroute.dialects.dialect import SseEvent

PATCH = '*** Begin Patch\n*** Update "é"\\n\t😀\n*** End Patch\n'
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}


def asked(**members: object) -> ChatRequest:
    """What Codex asks."""
    tool = {"type": "custom", "name": "apply_patch", "description": "edits", "format": GRAMMAR}
    body = {
        "model": "m",
        "input": [
            {"role": "user", "content": "fix it"},
            {"type": "custom_tool_call", "call_id": "call_1", "name": "apply_patch", "input": PATCH},
            {"type": "custom_tool_call_output", "call_id": "call_1", "output": "done"},
        ],
        "tools": [tool, {"type": "function", "name": "shell", "parameters": {"type": "object"}}],
        **members,
    }
    return openai_responses.DIALECT.read_request(json.dumps(body).encode())


def test_tool_is_declared_as_a_function_of_one_text() -> None:
    """Its grammar is said in words; the request that was read is left alone."""
    request = asked()

    changed, names = as_functions(request)

    tool, shell = changed.tools
    assert {"apply_patch"} == names
    assert (pb.TOOL_KIND_FUNCTION, SCHEMA) == (tool.kind, json.loads(tool.parameters))
    assert "edits\n\n`input` must match this Lark grammar:\nstart: /.+/" == tool.description
    assert request.tools[1] == shell
    assert pb.TOOL_KIND_CUSTOM == request.tools[0].kind


def test_earlier_calls_are_calls_of_that_function() -> None:
    """What the model wrote stands in `input`, and can be read back."""
    changed, _ = as_functions(asked())
    calls = [part.tool_call for message in changed.messages for part in message.parts if part.HasField("tool_call")]

    assert [(pb.TOOL_KIND_FUNCTION, {"input": PATCH})] == [(call.kind, json.loads(call.arguments)) for call in calls]
    assert PATCH == text_in(calls[0].arguments)


def test_other_conversations_are_left_alone() -> None:
    """Not even copied."""
    request = openai_chat.DIALECT.read_request(b'{"model":"m","messages":[{"role":"user","content":"x"}]}')

    assert as_functions(request)[0] is request


def test_choice_of_a_custom_tool_is_one_of_the_function() -> None:
    """By its name, and in a list of those that are allowed."""
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "custom", "name": "apply_patch"}]}

    named, _ = as_functions(asked(tool_choice={"type": "custom", "name": "apply_patch"}))
    listed, _ = as_functions(asked(tool_choice=allowed))

    body, _ = anthropic_messages.DIALECT.write_request(named, model="c", stream=False, source="openai.responses")
    assert {"type": "tool", "name": "apply_patch"} == json.loads(body)["tool_choice"]
    assert b'"custom"' not in listed.tool_choice.raw


@given(st.text(), st.integers(1, 7), st.booleans())
def test_text_comes_out_as_it_is_made(text: str, size: int, ascii_only: bool) -> None:
    """Wherever the pieces end: in an escape, in a pair of surrogates, before the text begins."""
    arguments = json.dumps({"input": text}, ensure_ascii=ascii_only)
    pieces = [arguments[at : at + size] for at in range(0, len(arguments), size)]
    taken = TextInArguments()

    said = [taken.feed(piece) for piece in pieces]

    assert text == "".join(said)
    assert not taken.close()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"patch": "abc"}', "abc"),
        ('{"why": "x", "input": "abc"}', "abc"),
        ('"abc"', "abc"),
        ("*** Begin Patch", "*** Begin Patch"),
        ('{"a": 1, "b": 2}', '{"a": 1, "b": 2}'),
        ("", ""),
        ('{"input": "a\nb"}', "a\nb"),
        ('{"input": "ab\\', "ab"),
        ("x" * 200, "x" * 200),
    ],
)
def test_arguments_in_another_form_lose_nothing(arguments: str, text: str) -> None:
    """Models do not always do as they are told."""
    taken = TextInArguments()

    assert text == taken.feed(arguments) + taken.close()


def restored(format_name: str, pieces: list[SseEvent]) -> list[ChatEvent]:
    """A vendor's stream as the caller's dialect gets it."""
    dialect = {"a": anthropic_messages.DIALECT, "c": openai_chat.DIALECT}[format_name]
    reader = CustomTools(dialect, frozenset({"apply_patch"})).reader()
    return [step for piece in pieces for step in reader.feed([piece])] + reader.finish()


def messages_stream(*calls: tuple[str, str]) -> list[SseEvent]:
    """Anthropic's stream with these calls, arguments in pieces of five characters."""
    start: dict[str, object] = {
        "type": "message_start",
        "message": {"id": "m", "content": [], "usage": {"input_tokens": 1}},
    }
    events: list[dict[str, object]] = [start]
    for index, (name, arguments) in enumerate(calls):
        block = {"type": "tool_use", "id": f"call_{index}", "name": name, "input": {}}
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        for at, end in pairwise([*range(0, len(arguments), 5), len(arguments)]):
            delta = {"type": "input_json_delta", "partial_json": arguments[at:end]}
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}})
    events.append({"type": "message_stop"})
    return [(str(event["type"]), json.dumps(event).encode()) for event in events]


def test_calls_in_a_stream_are_calls_of_the_custom_tool() -> None:
    """Beside those of functions, which stay what they are."""
    steps = restored("a", messages_stream(("apply_patch", json.dumps({"input": PATCH})), ("shell", '{"cmd":"ls"}')))

    kinds = {step.tool_call.index: step.tool_call.kind for step in steps if step.tool_call.name}
    said = {0: "", 1: ""}
    for step in steps:
        if step.HasField("tool_call"):
            said[step.tool_call.index] += step.tool_call.arguments
    assert {0: pb.TOOL_KIND_CUSTOM, 1: pb.TOOL_KIND_FUNCTION} == kinds
    assert {0: PATCH, 1: '{"cmd":"ls"}'} == said


def test_call_in_another_form_is_said_before_the_end() -> None:
    """In full, before the finish reason."""
    steps = restored("a", messages_stream(("apply_patch", json.dumps({"patch": PATCH}))))

    said = [step.WhichOneof("event") for step in steps]
    assert PATCH == "".join(step.tool_call.arguments for step in steps)
    assert said.index("finished") > max(place for place, kind in enumerate(said) if kind == "tool_call")


def test_whole_answer_has_a_call_of_the_custom_tool() -> None:
    """Which the caller's format writes as such."""
    answer = {
        "id": "m",
        "content": [{"type": "tool_use", "id": "call_1", "name": "apply_patch", "input": {"input": PATCH}}],
        "stop_reason": "tool_use",
    }
    spoken = CustomTools(anthropic_messages.DIALECT, frozenset({"apply_patch"}))

    response = spoken.read_answer(json.dumps(answer).encode())

    body = json.loads(openai_responses.DIALECT.write_answer(response, request_id="1", model="m"))
    assert [("custom_tool_call", PATCH)] == [(item["type"], item["input"]) for item in body["output"]]
    chat = json.loads(openai_chat.DIALECT.write_answer(response, request_id="1", model="m"))
    call = chat["choices"][0]["message"]["tool_calls"][0]
    assert ("custom", {"name": "apply_patch", "input": PATCH}) == (call["type"], call["custom"])
