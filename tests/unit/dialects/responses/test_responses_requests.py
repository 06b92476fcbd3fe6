"""What clients send in `openai.responses`: facts at the door, refusals, and the typed form there and back."""

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import foreign, openai_chat, openai_responses
from polyroute.dialects.openai_responses import Options
from polyroute.mesh.errors import MeshError
from tests.outbound import attempt, broken

DIALECT = openai_responses.DIALECT
OWN = DIALECT.name
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "add",
    "arguments": "{}",
    "status": "completed",
}
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "a"}],
    "encrypted_content": "g",
}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}}
ITEMS: list[dict[str, Any]] = [
    {"role": "user", "content": "Hello"},
    {"role": "developer", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
    {"type": "message", "role": "user", "id": "msg_0", "status": "completed", "content": "With an id"},
    {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "See", "prompt_cache_breakpoint": {"mode": "explicit"}},
            {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "low"},
            {"type": "input_image", "file_id": "file-1"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
            {"type": "input_file", "file_url": "https://example.com/a.pdf"},
            {"type": "input_file", "file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"},
            {"type": "input_file", "file_data": "AAAA", "filename": "b.pdf"},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
        ],
    },
    THOUGHT,
    {
        **THOUGHT,
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "x"}, {"type": "reasoning_text", "text": ""}],
    },
    SEARCH,
    {
        "type": "message",
        "role": "assistant",
        "id": "msg_1",
        "status": "completed",
        "phase": "final_answer",
        "content": [
            {"type": "output_text", "text": "One", "annotations": [{"type": "file_citation", "index": 1}]},
            {"type": "output_widget", "widget": 1},
            {"type": "output_text", "text": "Two"},
        ],
    },
    {"role": "assistant", "content": "Without an id"},
    {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]},
    CALL,
    {"type": "custom_tool_call", "call_id": "call_2", "name": "shell", "input": "ls"},
    {"type": "function_call_output", "call_id": "call_1", "output": "2"},
    {
        "type": "function_call_output",
        "call_id": "call_1",
        "id": "o_1",
        "output": [
            {"type": "input_text", "text": "a"},
            {"type": "input_image", "image_url": "https://example.com/a.png"},
        ],
    },
    {"type": "custom_tool_call_output", "call_id": "call_2", "output": "files"},
    {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "AAAA", "output_format": "webp"},
    {"type": "item_reference", "id": "msg_9"},
    {"type": "compaction", "id": "cmp_1", "encrypted_content": "g"},
    {"type": "mcp_approval_response", "approval_request_id": "m_1", "approve": True},
]
REQUEST: dict[str, Any] = {
    "model": "m",
    "instructions": "Be brief",
    "input": ITEMS,
    "tools": [
        {"type": "web_search", "search_context_size": "low"},
        {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True, "defer_loading": True},
        {
            "type": "custom",
            "name": "shell",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: /a/"},
        },
        {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "inner"}]},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "add"}]},
    "parallel_tool_calls": True,
    "max_output_tokens": 64,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_logprobs": 2,
    "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
    "reasoning": {"effort": "high", "summary": "auto", "context": "all_turns"},
    "text": {
        "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True},
        "verbosity": "low",
        "x": 1,
    },
    "user": "u",
    "metadata": {"a": "b"},
    "store": False,
    "previous_response_id": "resp_0",
    "truncation": "auto",
    "service_tier": "flex",
    "background": True,
    "stream_options": {"include_obfuscation": False},
    "prompt_cache_key": "k",
}


def written(
    request: dict[str, Any], source: str = OWN, options: Options | None = None
) -> tuple[dict[str, Any], list[str]]:
    """A request once read and written again."""
    dialect = openai_responses.OpenAIResponses(options=options or Options())
    body, dropped = dialect.write_request(
        dialect.read_request(json.dumps(request).encode()), model="m", stream=False, source=source
    )
    return json.loads(body), dropped


def test_everything_a_request_can_say_comes_back() -> None:
    """Request -> conversation -> request is the same JSON, for every kind of item and every member."""
    again, dropped = written(REQUEST)

    assert again == REQUEST
    assert not dropped


@given(st.lists(st.sampled_from(ITEMS), min_size=1, max_size=8))
def test_items_keep_their_order(items: list[dict[str, Any]]) -> None:
    """Whatever follows whatever, items come back one by one as they were."""
    again, _ = written({"model": "m", "input": items})

    assert again["input"] == items


@given(st.lists(st.sampled_from(ITEMS), min_size=1, max_size=6))
def test_conversations_are_the_same_again(items: list[dict[str, Any]]) -> None:
    """ChatRequest -> bytes -> ChatRequest is the same."""
    request = DIALECT.read_request(json.dumps({"model": "m", "input": items}).encode())

    body, _ = DIALECT.write_request(request, model="m", stream=False, source=OWN)

    assert DIALECT.read_request(body) == request


def test_text_is_a_message_of_the_user() -> None:
    """An input that is text, and nested tools, are what their longer forms are."""
    nested = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}

    again, _ = written({"model": "m", "input": "Hello", "tools": [nested], "include": []})

    assert again["input"] == [{"role": "user", "content": "Hello"}]
    assert again["tools"] == [{"type": "function", "name": "add", "parameters": {"type": "object"}}]


def test_a_turn_is_one_message() -> None:
    """What an assistant did between two messages is one message with its parts in order; results are the tool's."""
    body = {"model": "m", "input": [ITEMS[0], THOUGHT, SEARCH, ITEMS[8], CALL, ITEMS[12], THOUGHT, ITEMS[8], ITEMS[8]]}

    request = DIALECT.read_request(json.dumps(body).encode())

    kinds = [[part.WhichOneof("part") for part in message.parts] for message in request.messages]
    assert kinds == [
        ["text"],
        ["reasoning", "reasoning", "text", "tool_call"],
        ["tool_result"],
        ["reasoning", "text"],
        ["text"],
    ]


def test_a_typed_caller_sends_nothing_that_nobody_stored() -> None:
    """Without the client's own ids and store, messages and calls go out plain, and only sealed reasoning goes out."""
    items = [ITEMS[0], {**THOUGHT, "encrypted_content": None}, {**THOUGHT, "id": "rs_2"}, ITEMS[7], CALL, ITEMS[16]]

    again, dropped = written({"model": "m", "instructions": "Be brief", "input": items}, source="")

    assert again["store"] is False
    assert again["instructions"] == "Be brief"
    assert again["include"] == ["reasoning.encrypted_content"]
    assert [item.get("type", "") for item in again["input"]] == ["", "reasoning", "message", "function_call"]
    assert [item.get("id") for item in again["input"]] == [None, "rs_2", None, None]
    assert again["input"][2]["phase"] == "final_answer"
    assert dropped == ["messages.reasoning"]


def test_vendors_differ_in_what_they_take() -> None:
    """Options say whether store and sealed reasoning are spoken of, and whether open reasoning and others are taken."""
    chat = openai_chat.DIALECT.read_request(
        json.dumps(
            {
                "model": "m",
                "messages": [
                    {"role": "system", "content": "s"},
                    {"role": "assistant", "content": "y", "reasoning_content": "because"},
                    {"role": "user", "content": "z"},
                ],
                "seed": 1,
                "stop": ["a"],
                "reasoning_effort": "low",
            }
        ).encode()
    )
    options = Options(
        store=None, sealed_reasoning=False, open_reasoning=True, instructions=False, accepts=frozenset({"seed", "stop"})
    )

    body, dropped = openai_responses.OpenAIResponses(options=options).write_request(
        chat, model="m", stream=True, source="openai.chat"
    )

    assert json.loads(body) == {
        "model": "m",
        "input": [
            {"role": "system", "content": "s"},
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "because"}]},
            {"role": "assistant", "content": "y"},
            {"role": "user", "content": "z"},
        ],
        "seed": 1,
        "stop": ["a"],
        "reasoning": {"effort": "low"},
        "stream": True,
    }
    assert not dropped


@pytest.mark.parametrize(
    ("reasoning", "effort"),
    [
        (pb.ReasoningOptions(effort="xhigh", max_tokens=1), "xhigh"),
        (pb.ReasoningOptions(enabled=False), "none"),
        (pb.ReasoningOptions(max_tokens=0), "none"),
        (pb.ReasoningOptions(max_tokens=1024), "low"),
        (pb.ReasoningOptions(max_tokens=8192), "medium"),
        (pb.ReasoningOptions(max_tokens=8193), "high"),
        (pb.ReasoningOptions(enabled=True), None),
    ],
)
def test_bounds_on_reasoning_are_efforts(reasoning: pb.ReasoningOptions, effort: str | None) -> None:
    """A bound in tokens, or a switch, is said as the effort that comes nearest."""
    message = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.TextPart(text="x"))])

    body, _ = DIALECT.write_request(
        pb.ChatRequest(model="m", messages=[message], reasoning=reasoning), model="m", stream=False
    )

    assert json.loads(body).get("reasoning", {}).get("effort") == effort


def test_what_only_its_vendor_holds_is_told() -> None:
    """A request that continues a stored answer says so, before and after it is read."""
    body = json.dumps(REQUEST).encode()

    assert foreign.bound_by(DIALECT.read_request(body), DIALECT.name) == "previous_response_id"
    assert foreign.bound_by(DIALECT.read_request(b'{"input":"x"}'), DIALECT.name) == ""


def test_facts_of_a_request() -> None:
    """Everything that routing needs stands in the facts."""
    facts = DIALECT.read_facts(json.dumps({**REQUEST, "stream": True}).encode())

    assert (facts.operation, facts.model, facts.max_output_tokens) == (pb.OPERATION_CHAT, "m", 64)
    assert (facts.stream, facts.stream_usage) == (True, True)
    assert list(facts.needs) == [
        pb.CAPABILITY_TOOLS,
        pb.CAPABILITY_VISION,
        pb.CAPABILITY_JSON_SCHEMA,
        pb.CAPABILITY_REASONING,
        pb.CAPABILITY_AUDIO_INPUT,
        pb.CAPABILITY_FILES,
        pb.CAPABILITY_LOGPROBS,
    ]
    assert 100 < facts.input_tokens_estimate < 1000


@pytest.mark.parametrize("extra", [{}, {"unknown": 1}], ids=["usual", "unusual"])
def test_tokens_are_estimated_alike(extra: dict[str, Any]) -> None:
    """Members that nobody knows change how items are decoded, not what is counted."""
    items = [
        {"role": "user", "content": "a" * 400, **extra},
        {**CALL, "arguments": "b" * 400, **extra},
        {"type": "function_call_output", "call_id": "call_1", "output": "c" * 400, **extra},
        {**THOUGHT, "summary": [], **extra},
    ]

    facts = DIALECT.read_facts(json.dumps({"model": "m", "input": items}).encode())

    assert abs(facts.input_tokens_estimate - 316) <= 2


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", ""),
        (b"[]", ""),
        (b'{"input":"x"', ""),
        (b'{"input":"x","model":""}', "model"),
        (b'{"model":"m"}', "input"),
        (b'{"model":"m","input":null}', "input"),
        (b'{"model":"m","input":[]}', "input"),
        (b'{"model":"m","input":3}', "input"),
        (b'{"model":"m","input":[3]}', "input[0]"),
        (b'{"model":"m","input":[{"role":"user","content":3}]}', "input[0].content"),
        (b'{"model":"m","model":"n","input":"x"}', "model"),
        (b'{"mod\\u0065l":"m","model":"m","input":"x"}', "model"),
        (b'{"model":"m","input":"x","input":"y"}', "input"),
        (b'{"model":"m","input":"x","max_output_tokens":-1}', "max_output_tokens"),
        (b'{"model":"m","input":"x","stream":"yes"}', "stream"),
        (b'{"model":"m","input":[{"role":"user","x":' + b"[" * 99 + b"]" * 99 + b"}]}", ""),
        (b'{"model":"m","input":"x","tools":[' + b"[" * 99 + b"]" * 99 + b"]}", ""),
    ],
)
def test_the_door_refuses(body: bytes, param: str) -> None:
    """What is no request is refused with the member that is wrong."""
    with pytest.raises(MeshError) as caught:
        DIALECT.read_facts(body)

    assert caught.value.reason == errors_pb2.REASON_INVALID_REQUEST
    assert caught.value.metadata.get("param", "") == param


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"input": 3}, "input"),
        ({"input": [3]}, "input[0]"),
        ({"input": [{}]}, "input[0].type"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": {}}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [3]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": [{"type": "video"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "?"}]}]},
            "input[0].content[0].file_data",
        ),
        ({"input": [{"role": "assistant", "content": 3}]}, "input[0].content"),
        ({"input": [{"type": "function_call", "name": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"input": "x", "instructions": 3}, "instructions"),
        ({"input": "x", "tools": 3}, "tools"),
        ({"input": "x", "tools": [3]}, "tools[0]"),
        ({"input": "x", "tools": [{"type": "function"}]}, "tools[0].name"),
        ({"input": "x", "metadata": {"a": 3}}, ""),
        ({"input": "x", "temperature": "hot"}, ""),
    ],
)
def test_reading_refuses(request_: dict[str, Any], param: str) -> None:
    """What cannot be read is refused with the member that is wrong."""
    with pytest.raises(MeshError) as caught:
        DIALECT.read_request(json.dumps({"model": "m", **request_}).encode())

    assert caught.value.reason == errors_pb2.REASON_INVALID_REQUEST
    assert caught.value.metadata.get("param", "") == param


@given(broken([REQUEST]))
def test_no_request_breaks_the_reading(value: Any) -> None:
    """Whatever stands in a request: facts, conversation and the way back give a result or a refusal."""
    body = json.dumps(value).encode()

    _, unfit = attempt(lambda: DIALECT.read_facts(body))
    request, unreadable = attempt(lambda: DIALECT.read_request(body))

    assert all(error.reason == errors_pb2.REASON_INVALID_REQUEST for error in (unfit, unreadable) if error)
    for source in ("", OWN, "openai.chat"):
        if request is not None:
            _, error = attempt(partial(DIALECT.write_request, request, model="m", stream=True, source=source))
            assert error is None or error.reason in (errors_pb2.REASON_INVALID_REQUEST, errors_pb2.REASON_UPSTREAM)


@given(st.binary())
def test_no_bytes_break_the_reading(body: bytes) -> None:
    """Whatever the bytes are, they are refused or read."""
    for read in (DIALECT.read_facts, DIALECT.read_request):
        _, error = attempt(partial(read, body))

        assert error is None or error.reason == errors_pb2.REASON_INVALID_REQUEST


def test_a_typed_callers_bytes_may_be_no_json() -> None:
    """Bytes that should be JSON and are not are refused, not sent."""
    message = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.TextPart(text="x"))])
    request = pb.ChatRequest(model="m", messages=[message], tools=[pb.Tool(name="add", parameters=b"{")])

    with pytest.raises(MeshError) as caught:
        DIALECT.write_request(request, model="m", stream=False)

    assert caught.value.reason == errors_pb2.REASON_INVALID_REQUEST


@pytest.mark.parametrize(
    "part",
    [
        pb.Part(audio=pb.AudioPart(id="audio_1")),
        pb.Part(file=pb.FilePart(media=pb.Media(data=b"x"))),
    ],
)
def test_what_cannot_be_said_is_refused(part: pb.Part) -> None:
    """Files and sound of the assistant have no place in this format: another deployment may know one."""
    request = pb.ChatRequest(model="m", messages=[pb.Message(role=pb.ROLE_ASSISTANT, parts=[part])])

    with pytest.raises(MeshError) as caught:
        DIALECT.write_request(request, model="m", stream=False)

    assert caught.value.fault == errors_pb2.FAULT_UNSUPPORTED
    assert caught.value.metadata["param"] == "messages.content"


SAID = {"role": "user", "content": "hi"}
SEALED = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
FILE = {"type": "input_file", "file_id": "file-1"}


@pytest.mark.parametrize(
    ("members", "bound"),
    [
        ({}, False),
        ({"input": [SAID, SEALED]}, True),
        ({"input": [{**SEALED, "unheard": 1}]}, True),
        ({"input": [{**SEALED, "encrypted_content": None}]}, False),
        ({"input": [{**SEALED, "encrypted_content": None, "unheard": 1}]}, False),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}, FILE]}]}, True),
        ({"input": [{"role": "user", "content": [{**FILE, "unheard": 1}]}]}, True),
        ({"input": [{"role": "user", "content": [{**FILE, "file_id": None, "file_data": "data:,a"}]}]}, False),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": [FILE]}]}, True),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": [FILE], "unheard": 1}]}, True),
        ({"input": [{"type": "other", "output": {"file_id": "encrypted_content"}}]}, False),
        ({"input": [{"role": "user", "content": '"file_id": "encrypted_content"'}]}, False),
        ({"input": [{"type": "item_reference", "id": "rs_1"}]}, True),
        ({"previous_response_id": "resp_1"}, True),
    ],
)
def test_facts_say_what_one_account_alone_can_read(members: dict[str, Any], bound: bool) -> None:
    """Sealed reasoning, ids of files and of what the vendor keeps; words about them are words."""
    facts = DIALECT.read_facts(json.dumps({"model": "m", "input": [SAID], **members}).encode())

    assert bound == facts.bound


@pytest.mark.parametrize(
    ("members", "kept"),
    [
        ({}, False),
        ({"store": True}, True),
        ({"background": True, "store": None}, True),
        ({"store": False, "background": False}, False),
    ],
)
def test_facts_say_what_the_vendor_keeps(members: dict[str, Any], kept: bool) -> None:
    """An answer that was asked to be stored, and work that goes on by itself."""
    facts = DIALECT.read_facts(json.dumps({"model": "m", "input": "hi", **members}).encode())

    assert kept == facts.kept
