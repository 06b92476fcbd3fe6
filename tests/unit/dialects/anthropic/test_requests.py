"""Conversations in and out of `anthropic.messages`: where the two forms differ."""

import json
from typing import Any

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import anthropic_messages, openai_chat
from polyroute.dialects.anthropic_messages import AnthropicMessages, Options
from polyroute.mesh.errors import MeshError

DIALECT = anthropic_messages.DIALECT
OPENAI = openai_chat.DIALECT


def read(**members: Any) -> pb.ChatRequest:
    """A client's request as a conversation."""
    plain: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    return DIALECT.read_request(json.dumps(plain | members).encode())


def written(request: pb.ChatRequest, options: Options | None = None, source: str = "") -> dict[str, Any]:
    """A conversation as a request to a vendor."""
    dialect = AnthropicMessages(options=options or Options())
    value: dict[str, Any] = json.loads(dialect.write_request(request, model="m", stream=False, source=source)[0])
    return value


def test_tool_results_are_a_message_of_their_own() -> None:
    """What tools answered stands apart from what the user said, and comes back in one turn."""
    blocks = [
        {"type": "tool_result", "tool_use_id": "a", "content": "1", "is_error": True},
        {"type": "text", "text": "Go on"},
    ]

    request = read(messages=[{"role": "user", "content": blocks}])

    assert [pb.ROLE_TOOL, pb.ROLE_USER] == [message.role for message in request.messages]
    assert request.messages[0].parts[0].tool_result.failed
    assert [{"role": "user", "content": blocks}] == written(request)["messages"]


def test_the_vendors_own_tools_stay_where_they_were() -> None:
    """They are no functions for other dialects, which learn that something was left out."""
    tools = [{"type": "web_search_20250305", "name": "web_search"}, {"name": "f", "input_schema": {"type": "object"}}]

    request = read(tools=tools, tool_choice={"type": "any", "disable_parallel_tool_use": True})
    body, dropped = OPENAI.write_request(request, model="m", stream=False, source="anthropic.messages")

    assert ["f"] == [tool.name for tool in request.tools]
    assert (tools, {"type": "any", "disable_parallel_tool_use": True}) == (
        written(request)["tools"],
        written(request)["tool_choice"],
    )
    assert ["f"] == [tool["function"]["name"] for tool in json.loads(body)["tools"]]
    assert "tools" in dropped


def test_blocks_nobody_knows_come_back_and_can_be_read_elsewhere() -> None:
    """A user's become text for other models; a model's are left out there."""
    result = {"type": "search_result", "source": "s", "title": "T", "content": [{"type": "text", "text": "found"}]}
    hint = {"type": "hint", "level": 3}
    own = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"q": "x"}}
    messages = [
        {"role": "user", "content": [result, hint]},
        {"role": "assistant", "content": [own, {"type": "text", "text": "Yes"}]},
    ]

    request = read(messages=messages)
    elsewhere = json.loads(OPENAI.write_request(request, model="m", stream=False, source="anthropic.messages")[0])

    assert messages == [
        turn | {"content": turn["content"] if isinstance(turn["content"], list) else [turn["content"]]}
        for turn in written(request)["messages"]
    ]
    assert ["T\nfound", '{"type":"hint","level":3}'] == [part["text"] for part in elsewhere["messages"][0]["content"]]
    assert "Yes" == elsewhere["messages"][1]["content"]


def test_a_system_message_in_the_middle() -> None:
    """It stays there for vendors that take it, and else joins the others in front."""
    messages = [{"role": "user", "content": "Hi"}, {"role": "system", "content": "Now in French."}]
    request = read(system="Be brief.", messages=messages)

    in_front = written(request)
    in_place = written(request, Options(system_messages=True))

    assert ["Be brief.", "Now in French."] == [block["text"] for block in in_front["system"]]
    assert messages == in_place["messages"] == written(request, source="anthropic.messages")["messages"]


@pytest.mark.parametrize(
    "members",
    [
        {"thinking": {"type": "adaptive", "display": "omitted"}},
        {"thinking": {"type": "adaptive"}},
        {"thinking": {"type": "disabled"}},
        {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 3000},
        {"thinking": {"type": "enabled"}},
        {"output_config": {"effort": "xhigh", "task_budget": {"type": "tokens"}}},
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}, "effort": "low"}},
        {"output_format": {"type": "json_schema", "schema": {"type": "object"}}},
        {"metadata": {"user_id": "u", "later": 1}},
        {"metadata": {"user_id": "u" * 600}},
        {"temperature": 0.0, "top_p": 0.5, "top_k": 3, "stop_sequences": [" ", "x"]},
        {"service_tier": "auto", "container": "c", "context_management": {"edits": []}, "mcp_servers": [{"name": "x"}]},
        {"cache_control": {"type": "ephemeral"}, "speed": "fast", "inference_geo": "eu"},
        {"tools": [{"name": "f", "input_schema": {}, "defer_loading": True, "type": "custom", "strict": False}]},
        {"tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": "tool", "name": "f"}},
        {"tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": "none"}},
        {"tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": "auto", "novelty": 1}},
    ],
)
def test_members_come_back_as_they_were(members: dict[str, Any]) -> None:
    """In the typed form or beside it, nothing of this dialect is lost on the way back to it."""
    value = written(read(**members))

    assert members == {name: value.get(name) for name in members}


def test_blocks_come_back_as_they_were() -> None:
    """Cache marks, citations, sources of all kinds."""
    content = [
        {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "f_1"}, "cache_control": {"type": "ephemeral"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hi"}, "title": "T"},
        {"type": "document", "source": {"type": "content", "content": "Hi"}, "citations": {"enabled": True}},
        {"type": "container_upload", "file_id": "f_2"},
    ]

    assert content == written(read(messages=[{"role": "user", "content": content}]))["messages"][0]["content"]


def test_what_newer_models_refuse_is_left_out() -> None:
    """Sampling is named as dropped where the vendor refuses it."""
    dialect = AnthropicMessages(options=Options(sampling=False))

    body, dropped = dialect.write_request(read(temperature=1, top_k=5), model="m", stream=False)

    assert ["temperature", "top_k"] == dropped
    assert not {"temperature", "top_k"} & json.loads(body).keys()


def test_hosts_that_take_the_version_in_the_body() -> None:
    """They get it there, and neither model nor the wish to stream."""
    dialect = AnthropicMessages(options=Options(body_version="v-1"))
    raw = b'{"model":"m","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}'
    facts = dialect.read_facts(raw)
    expected = {"anthropic_version": "v-1", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}

    written_out, _ = dialect.write_request(dialect.read_request(raw), model="up", stream=True)

    assert expected == json.loads(written_out)
    assert expected == json.loads(dialect.patch_request(raw, facts, model="up", ask_usage=True))


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"reasoning_effort": "high", "max_tokens": 10_000}, {"type": "enabled", "budget_tokens": 8000}),
        ({"reasoning_effort": "low", "max_tokens": 2000}, {"type": "enabled", "budget_tokens": 1024}),
        ({"reasoning_effort": "medium"}, {"type": "enabled", "budget_tokens": 4096}),
        ({"reasoning": {"max_tokens": 3000}, "max_tokens": 4000}, {"type": "enabled", "budget_tokens": 3000}),
        ({"reasoning": {"enabled": False}}, {"type": "disabled"}),
        ({"reasoning_effort": "none"}, {"type": "disabled"}),
        ({"reasoning_effort": "high", "max_tokens": 500}, None),
    ],
)
def test_effort_as_a_budget(members: dict[str, Any], expected: dict[str, Any] | None) -> None:
    """Older models get a number of tokens, within the bound on the answer."""
    plain = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    request = OPENAI.read_request(json.dumps(plain | members).encode())

    value = written(request, Options(thinking="budget"), source="openai.chat")

    assert expected == value.get("thinking")
    assert value["max_tokens"] > (expected or {}).get("budget_tokens", 0)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": [{"role": "user", "content": [5]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "oracle", "content": "x"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "%"}}]}]},
            "messages[0].content[0].source.data",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0].source"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tools": {}}, "tools"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"thinking": True}, "thinking"),
        ({"metadata": 5}, "metadata"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"max_tokens": "many"}, ""),
    ],
)
def test_a_broken_request_is_refused_with_its_place(members: dict[str, Any], param: str) -> None:
    """A refusal of the caller's request, with the member where one is to blame."""
    with pytest.raises(MeshError) as caught:
        read(**members)

    assert errors_pb2.REASON_INVALID_REQUEST == caught.value.reason
    assert param == caught.value.metadata.get("param", "")


def test_a_typed_request_with_broken_json_is_refused() -> None:
    """Whoever speaks the typed form may hold anything in its bytes."""
    request = read()
    request.tools.add(name="f", parameters=b"{")

    with pytest.raises(MeshError) as caught:
        written(request)

    assert errors_pb2.REASON_INVALID_REQUEST == caught.value.reason
