"""`xai.grpc` where a rule is sharp: what goes out comes back, nothing breaks the reader, the numbers are published."""

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import grpc_frames, openai_chat
from polyroute.dialects.events import assemble
from polyroute.dialects.xai_grpc import OUTBOUND
from polyroute.mesh.errors import MeshError
from tests.outbound import TYPES, VALUES, attempt, broken, outcome
from tests.unit.dialects.xai.calls import bytes_of, chunk, sent, whole
from xai.api.v1 import chat_pb2, image_pb2, usage_pb2
from xai.api.v1.chat_pb2 import GetChatCompletionChunk, GetCompletionsRequest

TYPES[".grpc"] = grpc_frames.STREAM
OK = {"grpc-status": "0"}
HI = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.TextPart(text="hi"))])
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
CALL = {"id": "c1", "function": {"name": "f", "arguments": '{"a": 1}'}}
# In the order in which the vendor gives them: reasoning, its encrypted form, the answer, calls.
DELTAS = st.tuples(
    st.lists(st.fixed_dictionaries({"reasoning_content": WORDS}), max_size=3),
    st.lists(st.fixed_dictionaries({"encrypted_content": WORDS}), max_size=2),
    st.lists(st.fixed_dictionaries({"content": WORDS}), max_size=3),
    st.lists(st.just({"tool_calls": [CALL]}), max_size=1),
).map(lambda kinds: [delta for kind in kinds for delta in kind])
FINISH = st.sampled_from(["REASON_STOP", "REASON_MAX_LEN", "REASON_TOOL_CALLS"])
SAMPLE = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "name": "n", "content": [{"type": "text", "text": "t"}]},
        {
            "role": "assistant",
            "content": "a",
            "tool_calls": [{"id": "c", "type": "function", "function": CALL["function"]}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "r"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": "auto",
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
    "seed": 1,
    "n": 1,
    "top_logprobs": 1,
    "max_tokens": 1,
    "temperature": 1.0,
    "stop": ["x"],
    "reasoning_effort": "low",
}


def answer(deltas: list[dict[str, Any]], finish: str, index: int = 0) -> list[GetChatCompletionChunk]:
    """The pieces of an answer, the last with its end."""
    outputs = [{"index": index, "delta": {"role": "ROLE_ASSISTANT", **delta}} for delta in [*deltas, {}]]
    outputs[-1]["finish_reason"] = finish
    return [chunk(id="a", model="m", outputs=[output]) for output in outputs]


def asked(**members: Any) -> pb.ChatRequest:
    """A typed question."""
    return pb.ChatRequest(model="m", messages=members.pop("messages", [HI]), **members)


def written(request: pb.ChatRequest, source: str = "") -> tuple[dict[str, Any], list[str]]:
    """What is sent for it, and what is left out."""
    body, dropped = OUTBOUND.write_request(request, model="up", stream=True, source=source)
    return sent(body), dropped


@given(DELTAS, FINISH, st.data())
def test_stream_is_the_whole_answer_in_pieces(deltas: list[dict[str, Any]], finish: str, data: st.DataObject) -> None:
    """However the bytes were cut."""
    chunks = answer(deltas, finish)
    raw = bytes_of(chunks, OK)
    places = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=5)))
    pieces = [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True)]
    events, fault = outcome(OUTBOUND, pieces, ".grpc")

    assert not fault
    assert OUTBOUND.read_answer(whole(chunks)) == assemble(events)


@given(DELTAS, DELTAS)
def test_answers_are_kept_apart(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    """Two that come at the same time are two."""
    one, two = answer(first, "REASON_STOP"), answer(second, "REASON_MAX_LEN", 1)
    mixed = [piece for pair in zip(one, two, strict=False) for piece in pair]
    rest = [*one[len(two) :], *two[len(one) :]]
    events, fault = outcome(OUTBOUND, [bytes_of([*mixed, *rest], OK)], ".grpc")
    found = assemble(events)

    assert not fault
    for choice, deltas in zip(found.choices, (first, second), strict=True):
        text = "".join(part.text.text for part in choice.message.parts)
        assert "".join(delta.get("content", "") for delta in deltas) == text


@given(DELTAS, FINISH, st.data())
def test_cut_stream_is_never_complete(deltas: list[dict[str, Any]], finish: str, data: st.DataObject) -> None:
    """Only the call's status ends it."""
    raw = bytes_of(answer(deltas, finish), OK)
    events, fault = outcome(OUTBOUND, [raw[: data.draw(st.integers(0, len(raw) - 1))]], ".grpc")
    all_events, _ = outcome(OUTBOUND, [raw], ".grpc")

    assert "TRUNCATED" == fault
    assert events == all_events[: len(events)]


@given(DELTAS, st.sampled_from(["REASON_STOP", "REASON_TOOL_CALLS"]))
def test_what_the_model_said_goes_back_to_it(deltas: list[dict[str, Any]], finish: str) -> None:
    """As the vendor's own client would put it into the next question."""
    message = OUTBOUND.read_answer(whole(answer(deltas, finish))).choices[0].message
    body, dropped = written(asked(messages=[HI, message]))
    [_, back] = body["messages"]
    expected = {
        name: text
        for name in ("reasoning_content", "encrypted_content")
        if (text := "".join(delta.get(name, "") for delta in deltas))
    }
    text = "".join(delta.get("content", "") for delta in deltas)
    calls = [{"id": "c1", "type": "TOOL_CALL_TYPE_CLIENT_SIDE_TOOL", "function": CALL["function"]}]
    if any("tool_calls" in delta for delta in deltas):
        expected["tool_calls"] = calls  # type: ignore[assignment] # JSON

    assert [] == dropped
    assert {"content": [{"text": text}], "role": "ROLE_ASSISTANT"} | expected == back
    assert ("encrypted_content" in expected) == body.get("use_encrypted_content", False)


@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    """Are an answer or no answer."""
    events, fault = outcome(OUTBOUND, [data], ".grpc")
    _, error = attempt(partial(OUTBOUND.read_answer, data))
    framed, broke = outcome(OUTBOUND, [grpc_frames.frame(data)], ".grpc")

    assert {fault, broke} <= {"TRUNCATED", "BAD_ANSWER"}
    assert error is None or error.fault == errors_pb2.FAULT_BAD_ANSWER
    assert all(isinstance(event, pb.ChatEvent) for event in [*events, *framed])


@given(DELTAS, st.data())
def test_damaged_answers(deltas: list[dict[str, Any]], data: st.DataObject) -> None:
    """Give steps or an error of the vendor."""
    raw = bytearray(bytes_of(answer(deltas, "REASON_STOP"), OK))
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=3)):
        raw[place] = data.draw(st.integers(0, 255))
    _, fault = outcome(OUTBOUND, [bytes(raw)], ".grpc")

    assert isinstance(fault, str)


@settings(deadline=None)
@given(broken([SAMPLE]))
def test_any_question(value: Any) -> None:
    """Is written, or refused in the caller's terms."""
    try:
        request = openai_chat.DIALECT.read_request(json.dumps(value).encode())
    except MeshError:
        return
    found, error = attempt(lambda: OUTBOUND.write_request(request, model="up", stream=False, source="openai.chat"))

    assert error is None or error.reason in (errors_pb2.REASON_UPSTREAM, errors_pb2.REASON_INVALID_REQUEST)
    assert found is None or "up" == GetCompletionsRequest.FromString(found[0]).model


@settings(deadline=None)
@given(st.sampled_from([field.name for field in GetCompletionsRequest.DESCRIPTOR.fields]), VALUES)
def test_any_extension(name: str, value: Any) -> None:
    """Is taken, or refused with its name."""
    request = asked(extensions={name: json.dumps(value).encode()})
    found, error = attempt(lambda: OUTBOUND.write_request(request, model="up", stream=False))

    assert error is None or name == error.metadata["param"]
    assert found is None or ["hi"] == [
        part.text for message in GetCompletionsRequest.FromString(found[0]).messages for part in message.content
    ]


class TestRequest:
    def test_members_that_only_this_contract_has(self) -> None:
        """By their published names, beside what the question says; never over it."""
        extensions = {
            "search_parameters": b'{"mode": "ON_SEARCH_MODE", "sources": [{"web": {"country": "BE"}}]}',
            "tools": b'[{"x_search": {"allowed_x_handles": ["a"]}}]',
            "include": b'["INCLUDE_OPTION_INLINE_CITATIONS"]',
            "max_turns": b"3",
            "user": b'"evil"',
            "model": b'"evil"',
            "messages": b"[]",
            "nobody_knows": b"1",
        }
        tool = pb.Tool(name="f", parameters=b"{}")
        body, dropped = written(asked(tools=[tool], user="u", extensions=extensions))

        assert {"mode": "ON_SEARCH_MODE", "sources": [{"web": {"country": "BE"}}]} == body["search_parameters"]
        assert [
            {"function": {"name": "f", "parameters": "{}"}},
            {"x_search": {"allowed_x_handles": ["a"]}},
        ] == body["tools"]
        assert (["INCLUDE_OPTION_INLINE_CITATIONS"], 3, "u", "up") == (
            body["include"],
            body["max_turns"],
            body["user"],
            body["model"],
        )
        assert ["messages", "model", "nobody_knows"] == dropped

    def test_calls_of_the_vendors_own_tools_go_back(self) -> None:
        """To the vendor, and to nobody else."""
        raw = b'[{"id": "s", "type": "TOOL_CALL_TYPE_WEB_SEARCH_TOOL"}]'
        said = pb.Message(role=pb.ROLE_ASSISTANT, extensions={"server_tool_calls": raw, "x": b"1"})
        body, dropped = written(asked(messages=[said]))
        _, theirs = written(asked(messages=[said]), "openai.chat")

        assert json.loads(raw) == body["messages"][0]["tool_calls"]
        assert ["messages.x"] == dropped
        assert ["messages.server_tool_calls", "messages.x"] == sorted(theirs)

    def test_state_of_another_vendor_is_never_sent(self) -> None:
        """Nor the reasoning that it seals."""
        state = pb.VendorState(dialect="openai.responses", kind="encrypted_content", data=b"SECRET")
        thoughts = [
            pb.Part(reasoning=pb.ReasoningPart(text="theirs"), state=state),
            pb.Part(reasoning=pb.ReasoningPart(text="whose")),
        ]
        body, dropped = written(asked(messages=[HI, pb.Message(role=pb.ROLE_ASSISTANT, parts=thoughts)]))

        assert {"content": [{"text": ""}], "role": "ROLE_ASSISTANT"} == body["messages"][1]
        assert ["messages.reasoning"] == dropped

    def test_files_that_the_vendor_holds(self) -> None:
        """For callers who say that it is this vendor."""
        media = pb.Media(file_id="file-1")
        parts = [pb.Part(image=pb.ImagePart(media=media)), pb.Part(file=pb.FilePart(media=media))]
        body, _ = written(asked(messages=[pb.Message(role=pb.ROLE_USER, parts=parts)]))

        assert [{"image_url": {"file_id": "file-1"}}, {"file": {"file_id": "file-1"}}] == body["messages"][0]["content"]

    def test_calls_without_ids_get_them(self) -> None:
        """The same in the call and in its result."""
        call = pb.Part(tool_call=pb.ToolCall(name="f", arguments="{}"))
        result = pb.Part(tool_result=pb.ToolResult(parts=[pb.Part(text=pb.TextPart(text="r"))]))
        messages = [pb.Message(role=pb.ROLE_ASSISTANT, parts=[call]), pb.Message(role=pb.ROLE_TOOL, parts=[result])]
        body, _ = written(asked(messages=messages))
        [said, told] = body["messages"]

        assert said["tool_calls"][0]["id"] == told["tool_call_id"]

    def test_callers_own_choice_of_encrypted_reasoning(self) -> None:
        """Stands, also when it is no."""
        reasoning = pb.ReasoningOptions(effort="high")
        body, _ = written(asked(reasoning=reasoning, extensions={"use_encrypted_content": b"false"}))

        assert "use_encrypted_content" not in body

    @pytest.mark.parametrize(
        ("options", "effort", "dropped"),
        [
            (pb.ReasoningOptions(enabled=False), "EFFORT_NONE", []),
            (pb.ReasoningOptions(enabled=True), None, []),
            (pb.ReasoningOptions(effort="max", max_tokens=5), "EFFORT_XHIGH", ["reasoning.max_tokens"]),
            (pb.ReasoningOptions(effort="odd", summary="auto"), None, ["reasoning_effort", "reasoning.summary"]),
        ],
    )
    def test_efforts(self, options: pb.ReasoningOptions, effort: str | None, dropped: list[str]) -> None:
        """The nearest that there is, and nothing that there is not."""
        body, left_out = written(asked(reasoning=options))

        assert (effort, dropped) == (body.get("reasoning_effort"), left_out)

    def test_schema_that_is_no_json(self) -> None:
        """The caller's fault."""
        request = asked(tools=[pb.Tool(name="f", parameters=b"{")])

        with pytest.raises(MeshError) as caught:
            OUTBOUND.write_request(request, model="up", stream=False)
        assert errors_pb2.REASON_INVALID_REQUEST == caught.value.reason


def test_the_numbers_are_the_published_ones() -> None:
    """By which alone the two sides understand each other: https://github.com/xai-org/xai-proto."""
    assert {
        "messages": 1, "model": 2, "frequency_penalty": 3, "logprobs": 5, "top_logprobs": 6, "max_tokens": 7, "n": 8,
        "presence_penalty": 9, "response_format": 10, "seed": 11, "stop": 12, "temperature": 14, "top_p": 15,
        "user": 16,
        "tools": 17, "tool_choice": 18, "reasoning_effort": 19, "search_parameters": 20, "parallel_tool_calls": 21,
        "previous_response_id": 22, "store_messages": 23, "use_encrypted_content": 24, "max_turns": 25, "include": 26,
        "agent_count": 29, "service_tier": 31, "safety_identifier": 34,
    } == numbers(GetCompletionsRequest)  # fmt: skip
    assert {
        "content": 1, "role": 2, "name": 3, "tool_calls": 4, "reasoning_content": 5, "encrypted_content": 6,
        "tool_call_id": 7,
    } == numbers(chat_pb2.Message)  # fmt: skip
    assert {
        "content": 1, "role": 2, "tool_calls": 3, "reasoning_content": 4, "encrypted_content": 5, "citations": 6,
    } == numbers(chat_pb2.Delta) == numbers(chat_pb2.CompletionMessage)  # fmt: skip
    assert {
        "id": 1, "outputs": 2, "created": 3, "model": 4, "system_fingerprint": 5, "usage": 6, "citations": 7,
        "output_files": 11, "service_tier": 12,
    } == numbers(GetChatCompletionChunk)  # fmt: skip
    assert {
        "id": 1, "outputs": 2, "created": 5, "model": 6, "system_fingerprint": 7, "usage": 9, "citations": 10,
        "output_files": 13, "service_tier": 15,
    } == numbers(chat_pb2.GetChatCompletionResponse)  # fmt: skip
    assert {"delta": 1, "logprobs": 2, "finish_reason": 3, "index": 4} == numbers(chat_pb2.CompletionOutputChunk)
    assert {"finish_reason": 1, "index": 2, "message": 3, "logprobs": 4} == numbers(chat_pb2.CompletionOutput)
    assert {"id": 1, "type": 2, "status": 3, "error_message": 4, "function": 10} == numbers(chat_pb2.ToolCall)
    assert {"text": 1, "image_url": 2, "file": 3} == numbers(chat_pb2.Content)
    assert {"image_url": 1, "detail": 2, "file_id": 3} == numbers(image_pb2.ImageUrlContent)
    assert {
        "completion_tokens": 1, "prompt_tokens": 2, "total_tokens": 3, "prompt_text_tokens": 4,
        "prompt_image_tokens": 5, "reasoning_tokens": 6, "cached_prompt_text_tokens": 7, "num_sources_used": 8,
        "server_side_tools_used": 9, "cost_in_usd_ticks": 11,
    } == numbers(usage_pb2.SamplingUsage)  # fmt: skip


def numbers(message: Any) -> dict[str, int]:
    """The numbers of its members."""
    return {field.name: field.number for field in message.DESCRIPTOR.fields}
