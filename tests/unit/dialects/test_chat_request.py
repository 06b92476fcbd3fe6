"""Conversations out of requests and into requests."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import openai_chat
from polyroute.dialects.openai_chat import OpenAIChat, Options
from polyroute.mesh.errors import MeshError

CHAT = openai_chat.DIALECT
WIDE = OpenAIChat(
    options=Options(
        developer_role=True,
        tool_images=True,
        reasoning_member="reasoning_content",
        accepts=frozenset({"top_k", "reasoning"}),
    )
)
USER = {"role": "user", "content": "Hello"}


def read(messages: list[dict[str, Any]], **members: Any) -> pb.ChatRequest:
    """A request as a conversation."""
    return CHAT.read_request(json.dumps({"model": "m", "messages": messages, **members}).encode())


def write(
    request: pb.ChatRequest, options: Options | None = None, source: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """A conversation as JSON."""
    body, dropped = OpenAIChat(options=options or Options()).write_request(
        request, model="up", stream=False, source=source
    )
    value: dict[str, Any] = json.loads(body)
    return value, dropped


TEXT = st.text(min_size=1, max_size=10)
TEXT_PART = st.builds(lambda text: {"type": "text", "text": text}, TEXT)
IMAGE = st.builds(
    lambda url, detail: {"type": "image_url", "image_url": {"url": url, **detail}},
    st.sampled_from(["https://example.org/a.png", "data:image/png;base64,AAEC"]),
    st.sampled_from([{}, {"detail": "low"}]),
)
OTHER_PARTS = st.sampled_from(
    [
        {"type": "input_audio", "input_audio": {"data": "AAEC", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAEC", "filename": "a.pdf"}},
        {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
    ]
)
CONTENT = TEXT | st.lists(TEXT_PART | IMAGE | OTHER_PARTS, min_size=2, max_size=4)
CALL = st.builds(
    lambda call_id, name, arguments: {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    },
    TEXT,
    TEXT,
    st.text(max_size=10),
)
CUSTOM = st.builds(
    lambda call_id, name: {"id": call_id, "type": "custom", "custom": {"name": name, "input": "x"}}, TEXT, TEXT
)
MESSAGE = st.one_of(
    st.builds(lambda role, text: {"role": role, "content": text}, st.sampled_from(["system", "developer"]), TEXT),
    st.builds(
        lambda content, name: {"role": "user", "content": content, **name},
        CONTENT,
        st.sampled_from([{}, {"name": "bob"}]),
    ),
    st.builds(
        lambda content, more: {"role": "assistant", "content": content, **more},
        TEXT,
        st.sampled_from([{}, {"reasoning_content": "hm"}, {"prefix": True}, {"refusal": "no"}]),
    ),
    st.builds(
        lambda calls: {"role": "assistant", "content": None, "tool_calls": calls}, st.lists(CALL | CUSTOM, min_size=1)
    ),
    st.builds(lambda call_id, content: {"role": "tool", "tool_call_id": call_id, "content": content}, TEXT, TEXT),
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "seed": st.integers(-(2**62), 2**62),
        "max_tokens": st.integers(0, 1000),
        "stop": st.lists(TEXT, min_size=1, max_size=4),
        "n": st.integers(1, 4),
        "user": TEXT,
        "metadata": st.dictionaries(TEXT, TEXT, min_size=1, max_size=3),
        "logit_bias": st.dictionaries(st.integers(0, 99).map(str), st.integers(-100, 100), min_size=1, max_size=3),
        "parallel_tool_calls": st.booleans(),
        "logprobs": st.booleans(),
        "top_logprobs": st.integers(0, 20),
        "top_k": st.integers(0, 50),
        "reasoning_effort": st.sampled_from(["none", "low", "high"]),
        "tool_choice": st.sampled_from(
            [
                "auto",
                "none",
                "required",
                {"type": "function", "function": {"name": "f"}},
                {"type": "allowed_tools", "x": 1},
            ]
        ),
        "tools": st.just(
            [
                {
                    "type": "function",
                    "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
                },
                {"type": "function", "function": {"name": "g", "odd": 1}, "cache_control": {"type": "ephemeral"}},
            ]
        ),
        "response_format": st.sampled_from(
            [
                {"type": "json_object"},
                {"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": 1}, "strict": False}},
                {"type": "grammar", "grammar": "x"},
            ]
        ),
        "tomorrow": st.just({"a": [1.5, None, "x"]}),
    },
)


@given(st.lists(MESSAGE, min_size=1, max_size=5), MEMBERS)
def test_what_is_modelled_survives(messages: list[dict[str, Any]], members: dict[str, Any]) -> None:
    """Request -> conversation -> request is the same JSON."""
    value = {"model": "m", "messages": messages, **members}

    request = CHAT.read_request(json.dumps(value).encode())
    body, dropped = WIDE.write_request(request, model="m", stream=False)

    assert not dropped
    assert value == json.loads(body)


def test_roles_and_parts() -> None:
    """Reasoning, text, refusal, calls and results become parts in the order a turn has."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
    request = read(
        [
            {"role": "developer", "content": "rules"},
            {"role": "assistant", "content": "ok", "reasoning": "hm", "refusal": "no", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "name": "f", "content": [{"type": "text", "text": "done"}]},
        ]
    )

    kinds = [[part.WhichOneof("part") for part in message.parts] for message in request.messages]
    result = request.messages[2].parts[0].tool_result
    assert [["text"], ["reasoning", "text", "refusal", "tool_call"], ["tool_result"]] == kinds
    assert ("c", "f", "done") == (result.tool_call_id, result.name, result.parts[0].text.text)
    assert request.messages[1].parts[3].tool_call.arguments == "{"


def test_a_data_url_becomes_bytes_and_an_address_stays_one() -> None:
    """Media is bytes with a type, or an address that nobody here fetches."""
    request = read(
        [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/gif;base64,AAEC"}},
                    {"type": "image_url", "image_url": "https://example.org/a.png"},
                    {"type": "image_url", "image_url": {"url": "data:text/plain,hello"}},
                ],
            }
        ]
    )

    media = [part.image.media for part in request.messages[0].parts]
    assert [("data", "image/gif"), ("url", ""), ("url", "")] == [(m.WhichOneof("source"), m.media_type) for m in media]
    assert media[0].data == b"\x00\x01\x02"


def test_sealed_reasoning_comes_back_as_it_was() -> None:
    """`reasoning_details` are returned member for member, whatever a vendor put there."""
    details = [
        {"type": "reasoning.text", "text": "hm", "signature": "seal", "format": "x-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "opaque", "id": "r1", "index": 1},
        {"type": "reasoning.summary", "summary": "short", "index": 2},
    ]
    request = read([USER, {"role": "assistant", "content": "ok", "reasoning_details": details}])

    written, dropped = write(request)

    assert details == written["messages"][1]["reasoning_details"]
    assert not dropped


def test_the_state_of_another_dialect_travels_and_is_not_shown_to_vendors() -> None:
    """A seal that a client carried for another vendor is restored when read, and kept from this dialect's vendors."""
    state = pb.VendorState(dialect="other.messages", kind="signature", data=b"\x00seal")
    thought = pb.Part(reasoning=pb.ReasoningPart(text="hm"), state=state)
    call = pb.Part(tool_call=pb.ToolCall(id="c", name="f", arguments="{}"), state=state)
    answer = pb.ChatResponse(choices=[pb.Choice(message=pb.Message(role=pb.ROLE_ASSISTANT, parts=[thought, call]))])
    message = json.loads(CHAT.write_answer(answer, request_id="r", model="m"))["choices"][0]["message"]

    request = read([USER, message])
    written, dropped = write(request)

    assert [state, state] == [part.state for part in request.messages[1].parts]
    assert {"role", "content", "tool_calls"} == written["messages"][1].keys()
    assert {"id", "type", "function"} == written["messages"][1]["tool_calls"][0].keys()
    assert ["messages.reasoning"] == dropped


def test_pictures_of_tools_follow_in_a_message_of_the_user() -> None:
    """Where tools may only answer text, their pictures come after all results of the turn."""
    image = pb.Part(image=pb.ImagePart(media=pb.Media(url="https://example.org/a.png")))
    results = [
        pb.Part(tool_result=pb.ToolResult(tool_call_id=name, parts=[pb.Part(text=pb.TextPart(text=name)), image]))
        for name in ("a", "b")
    ]
    request = pb.ChatRequest(
        model="m",
        messages=[
            pb.Message(role=pb.ROLE_TOOL, parts=results[:1]),
            pb.Message(role=pb.ROLE_TOOL, parts=results[1:]),
            pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.TextPart(text="so?"))]),
        ],
    )

    messages = write(request)[0]["messages"]

    assert ["tool", "tool", "user", "user"] == [message["role"] for message in messages]
    assert ["a", "b"] == [message["content"] for message in messages[:2]]
    assert ["image_url", "image_url"] == [part["type"] for part in messages[2]["content"]]


def test_calls_without_ids_get_some_and_results_find_them() -> None:
    """A vendor that names no calls can be followed by one that needs names."""
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    request = read([USER, {"role": "assistant", "tool_calls": [call, call]}, *[{"role": "tool", "content": "x"}] * 2])

    messages = write(request)[0]["messages"]

    made = [call["id"] for call in messages[1]["tool_calls"]]
    assert len(set(made)) == 2
    assert made == [message["tool_call_id"] for message in messages[2:]]


@pytest.mark.parametrize(
    ("options", "member"),
    [(Options(), "max_tokens"), (Options(max_tokens_member="max_completion_tokens"), "max_completion_tokens")],
)
def test_the_bound_has_the_name_the_vendor_knows(options: Options, member: str) -> None:
    """Either name is read; the one that the vendor knows is written."""
    for name in ("max_tokens", "max_completion_tokens"):
        written, _ = write(read([USER], **{name: 5}), options)

        assert written[member] == 5


def test_what_a_vendor_cannot_take_is_dropped_by_name() -> None:
    """Parameters beyond the standard, and members of another dialect, are left out and named."""
    request = read([USER], top_k=5, tomorrow=1, reasoning={"effort": "low", "max_tokens": 100})

    written, dropped = write(request, source="other.dialect")

    assert ["top_k", "reasoning.max_tokens", "tomorrow"] == dropped
    assert {"model", "messages", "reasoning_effort"} == written.keys()


def test_a_stream_asks_for_usage_where_that_is_known() -> None:
    """`stream_options` goes to vendors that know it."""
    request = read([USER])

    bodies = [
        json.loads(OpenAIChat(options=options).write_request(request, model="up", stream=True)[0])
        for options in (Options(), Options(stream_usage=False))
    ]

    assert [{"include_usage": True}, None] == [body.get("stream_options") for body in bodies]
    assert [True, True] == [body["stream"] for body in bodies]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "oracle", "content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "hologram"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "messages[0].content[0]"),
        (
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "?"}}]}],
            "messages[0].content[0]",
        ),
        ([], "messages"),
    ],
)
def test_what_cannot_be_translated_is_refused_by_name(messages: list[dict[str, Any]], param: str) -> None:
    """Content that the typed form does not model is refused, never lost."""
    with pytest.raises(MeshError) as caught:
        read(messages)

    assert caught.value.reason == errors_pb2.REASON_INVALID_REQUEST
    assert param == caught.value.metadata["param"]


def test_a_file_of_another_vendor_cannot_be_written() -> None:
    """Content that the vendor cannot get is refused, not dropped."""
    image = pb.Part(image=pb.ImagePart(media=pb.Media(file_id="file_1")))
    request = pb.ChatRequest(model="m", messages=[pb.Message(role=pb.ROLE_USER, parts=[image])])

    with pytest.raises(MeshError) as caught:
        write(request)

    assert caught.value.reason == errors_pb2.REASON_INVALID_REQUEST
