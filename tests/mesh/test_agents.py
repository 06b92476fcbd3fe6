"""Coding agents: their requests in the shapes that their documentation and sources show, sent as they send them.

https://code.claude.com/docs/en/llm-gateway-protocol, https://github.com/openai/codex.
"""

from collections.abc import AsyncGenerator
from typing import Any, Final

import orjson
import pytest
import pytest_asyncio

from tests.callers import MessagesCaller, ResponsesCaller, values
from tests.fakes.turns import Call, Turn
from tests.spoken import Stage, speaking

pytestmark = pytest.mark.asyncio(loop_scope="module")

BETAS: Final = "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27"
PATCH: Final = "*** Begin Patch\n*** End Patch"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """One gateway; the model `claude-here` is Anthropic's, under a name that Claude Code shows."""
    aliases = {"claude-here": "anthropic.messages"}
    async with speaking(tmp_path_factory.mktemp("gateway"), aliases=aliases) as stage:
        yield stage


def claude_headers(stage: Stage) -> dict[str, str]:
    """What Claude Code sends beside the body."""
    return {
        "authorization": f"Bearer {stage.gateway.key}",
        "content-type": "application/json",
        "accept": "application/json",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": BETAS,
        "anthropic-dangerous-direct-browser-access": "true",
        "user-agent": "claude-cli/2.1.126 (external, cli)",
        "x-app": "cli",
        "x-stainless-lang": "js",
        "x-stainless-retry-count": "0",
    }


def claude_body(model: str) -> dict[str, Any]:
    """A turn of Claude Code: cached instructions, tools, thinking, and members that are the vendor's business only."""
    cached = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"}
    properties = {"command": {"type": "string"}, "timeout": {"type": "number"}}
    return {
        "model": model,
        "max_tokens": 32000,
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1"},
            {"type": "text", "text": "You are Claude Code.", **cached},
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "<system-reminder>tidy</system-reminder>"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "ok"}]},
            {"role": "user", "content": [{"type": "text", "text": "list files", **cached}]},
        ],
        "tools": [
            {
                "name": "Bash",
                "description": "runs a command",
                "input_schema": {**schema, "properties": properties, "required": ["command"]},
                "eager_input_streaming": True,
            }
        ],
        "metadata": {"user_id": "user_0_account__session_1"},
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "high"},
        "stream": True,
    }


async def test_claude_code_with_claude(stage: Stage) -> None:
    """Body and headers reach the vendor as they are; its stream comes back byte for byte."""
    stage.vendors.say(Turn(reasoning="hm", seal="c2VhbA==", calls=(Call("Bash", '{"command":"ls"}', "toolu_1"),)))
    body = claude_body("claude-here")

    answer = await stage.gateway.post("/v1/messages?beta=true", body, headers=claude_headers(stage))

    seen = stage.vendors.last
    assert (200, "text/event-stream; charset=utf-8") == (answer.status, answer.headers["content-type"])
    assert answer.headers["request-id"]
    assert (BETAS, "2023-06-01") == (seen.headers["anthropic-beta"], seen.headers["anthropic-version"])
    assert "key-of-anthropic" == seen.headers["x-api-key"]
    assert stage.gateway.key not in str(seen.headers)
    assert {**body, "model": "claude-sonnet-4-5"} == seen.json
    said = MessagesCaller().streamed(answer.body)
    assert ("hm", "tools", True) == (said.reasoning, said.finish, said.ended)
    assert [{"command": "ls"}] == [call.given for call in said.calls]


@pytest.mark.parametrize("vendor", ["openai.chat", "openai.responses", "gemini.generate", "bedrock.converse"])
async def test_claude_code_with_others(stage: Stage, vendor: str) -> None:
    """The same request, translated: tools and words arrive, what cannot be said is left out and named."""
    stage.vendors.say(Turn(reasoning="hm", seal="c2VhbA==", calls=(Call("Bash", '{"command":"ls"}', "toolu_1"),)))

    answer = await stage.gateway.post("/v1/messages?beta=true", claude_body(vendor), headers=claude_headers(stage))

    heard = stage.vendors.last.heard
    assert 200 == answer.status, answer.body
    assert ["Bash"] == heard.tools
    assert ("user", "list files") == heard.texts[-1]
    assert "context_management" in answer.headers["x-polyroute-dropped"].split(",")
    assert "anthropic-beta" not in stage.vendors.last.headers
    said = MessagesCaller().streamed(answer.body)
    assert ("hm", "tools", True) == (said.reasoning, said.finish, said.ended)
    assert [{"command": "ls"}] == [call.given for call in said.calls]


async def test_features_in_trial_by_converse(stage: Stage) -> None:
    """What Bedrock's Claude knows of them goes where its API has them; the rest is named."""
    headers = claude_headers(stage) | {"anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14"}

    answer = await stage.gateway.post("/v1/messages?beta=true", claude_body("bedrock.converse"), headers=headers)

    fields = stage.vendors.last.json["additionalModelRequestFields"]
    assert 200 == answer.status, answer.body
    assert ["interleaved-thinking-2025-05-14"] == fields["anthropic_beta"]
    assert "thinking" in fields
    assert "anthropic-beta" in answer.headers["x-polyroute-dropped"].split(",")


async def test_claude_code_starts(stage: Stage) -> None:
    """It looks whether somebody is there, lists the models in its own form, and counts."""
    headers = claude_headers(stage)

    async with stage.gateway.session.head(stage.gateway.url + "/", headers=headers) as probe:
        assert 200 == probe.status
    models = (await stage.gateway.get("/v1/models?limit=1000", headers=headers)).json
    body = {name: value for name, value in claude_body("claude-here").items() if name not in ("stream", "max_tokens")}
    counted = await stage.gateway.post("/v1/messages/count_tokens?beta=true", body, headers=headers)

    assert {"data", "has_more", "first_id", "last_id"} == models.keys()
    assert {"claude-here"} < {model["id"] for model in models["data"]}
    assert {"model"} == {model["type"] for model in models["data"]}
    assert {"input_tokens": 42} == counted.json
    assert BETAS == stage.vendors.last.headers["anthropic-beta"]


async def test_claude_code_is_told_to_wait(stage: Stage) -> None:
    """Its own status for an overloaded vendor, and its own form for a wrong key."""
    stage.vendors.say(Turn(status=529))

    busy = await stage.gateway.post("/v1/messages?beta=true", claude_body("claude-here"), headers=claude_headers(stage))
    headers = claude_headers(stage) | {"authorization": "Bearer pr-" + "D" * 64}
    stranger = await stage.gateway.post("/v1/messages?beta=true", claude_body("claude-here"), headers=headers)

    assert (529, "overloaded_error") == (busy.status, busy.error["type"])
    assert (401, "authentication_error") == (stranger.status, stranger.error["type"])
    assert "error" == stranger.json["type"]


def codex_body(model: str, **more: Any) -> dict[str, Any]:
    """A turn of Codex: nothing is stored, so thoughts come back sealed."""
    parameters = {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}
    run = {"type": "function", "name": "exec_command", "description": "runs", "strict": False, "parameters": parameters}
    return {
        "model": model,
        "instructions": "You are Codex.",
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "be careful"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "list files"}]},
        ],
        "tools": [run],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0199-session",
        "client_metadata": {"session": "0199"},
        **more,
    }


def codex_headers(stage: Stage) -> dict[str, str]:
    """What Codex sends beside the body."""
    return {
        "authorization": f"Bearer {stage.gateway.key}",
        "content-type": "application/json",
        "accept": "text/event-stream",
        "originator": "codex_cli_rs",
        "session_id": "0199",
        "conversation_id": "0199",
        "user-agent": "codex_cli_rs/0.169.0",
    }


@pytest.mark.parametrize(
    "vendor", ["openai.responses", "openai.chat", "anthropic.messages", "gemini.generate", "bedrock.converse"]
)
async def test_codex(stage: Stage, vendor: str) -> None:
    """A loop with two calls: each item is closed, the end has an id and usage, and the thoughts return."""
    calls = (Call("exec_command", '{"cmd":"ls"}', "call_1"), Call("exec_command", '{"cmd":"pwd"}', "call_2"))
    stage.vendors.say(Turn(reasoning="hm", seal="c2VhbA==", calls=calls), Turn(text="two files"))
    question = codex_body(vendor)

    answer = await stage.gateway.post("/v1/responses", question, headers=codex_headers(stage))
    first = ResponsesCaller().streamed(answer.body)
    events = list(values(answer.body))
    items = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    results = [
        {"type": "function_call_output", "call_id": call.id, "output": f"<{call.arguments}>"} for call in first.calls
    ]
    body = codex_body(vendor, input=[*question["input"], *items, *results])
    second = ResponsesCaller().streamed(
        (await stage.gateway.post("/v1/responses", body, headers=codex_headers(stage))).body
    )

    assert "response.completed" == events[-1]["type"]
    assert events[-1]["response"]["id"]
    assert (3, 10) == (
        events[-1]["response"]["usage"]["input_tokens_details"]["cached_tokens"],
        events[-1]["response"]["usage"]["input_tokens"],
    )
    assert [call.given for call in calls] == [call.given for call in first.calls]
    heard = stage.vendors.last.heard
    assert [call.given for call in calls] == [call.given for call in heard.calls]
    assert ['<{"cmd":"ls"}>', '<{"cmd":"pwd"}>'] == [result for _, result in heard.results]
    assert vendor == "openai.chat" or heard.seals == ["c2VhbA=="]
    assert ("two files", True) == (second.text, second.ended)


async def test_codex_with_a_free_text_tool(stage: Stage) -> None:
    """A custom tool with a grammar passes to a vendor that knows such; for another it is a function of one text."""
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}
    tool = {"type": "custom", "name": "apply_patch", "description": "edits", "format": grammar}
    called = [
        {"type": "custom_tool_call", "call_id": "call_1", "name": "apply_patch", "input": PATCH, "status": "completed"},
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "done"},
    ]
    stage.vendors.say(Turn(text="patched"), Turn(text="patched too"))
    body = codex_body("openai.responses", tools=[tool])
    body["input"] += called

    answer = await stage.gateway.post("/v1/responses", body, headers=codex_headers(stage))
    other = await stage.gateway.post(
        "/v1/responses", {**body, "model": "anthropic.messages"}, headers=codex_headers(stage)
    )

    assert "patched" == ResponsesCaller().streamed(answer.body).text
    sent = next(seen for seen in reversed(stage.vendors.seen) if seen.dialect == "openai.responses").json
    assert {**body, "model": "up-responses"} == sent
    assert "patched too" == ResponsesCaller().streamed(other.body).text
    heard = stage.vendors.last.heard
    assert (["apply_patch"], [{"input": PATCH}]) == (heard.tools, [call.given for call in heard.calls])


@pytest.mark.parametrize("vendor", ["anthropic.messages", "gemini.generate"])
async def test_codex_patches_with_others(stage: Stage, vendor: str) -> None:
    """A whole loop: the free-text tool beside functions, called with thoughts, answered, and the thoughts return."""
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: begin_patch hunk+ end_patch"}
    tool = {"type": "custom", "name": "apply_patch", "description": "edits", "format": grammar}
    question = codex_body(vendor)
    question["tools"] = [*question["tools"], tool, {"type": "web_search", "external_web_access": False}]
    calls = (
        Call("apply_patch", orjson.dumps({"input": PATCH}).decode(), "call_1"),
        Call("exec_command", '{"cmd":"ls"}', "call_2"),
    )
    stage.vendors.say(Turn(reasoning="hm", seal="c2VhbA==", calls=calls), Turn(text="patched"))

    answer = await stage.gateway.post("/v1/responses", question, headers=codex_headers(stage))
    heard = stage.vendors.last.heard
    events = list(values(answer.body))
    items = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    patch, run = (item for item in items if item["type"].endswith("_call"))
    pieces = [event["delta"] for event in events if event["type"] == "response.custom_tool_call_input.delta"]
    results = [
        {"type": "custom_tool_call_output", "call_id": patch["call_id"], "output": "done"},
        {"type": "function_call_output", "call_id": run["call_id"], "output": "a.txt"},
    ]
    body = question | {"input": [*question["input"], *items, *results]}
    again = await stage.gateway.post("/v1/responses", body, headers=codex_headers(stage))

    assert {"exec_command", "apply_patch"} <= set(heard.tools)
    assert b"begin_patch hunk+" in stage.vendors.seen[-2].body
    assert ("custom_tool_call", "apply_patch", PATCH) == (patch["type"], patch["name"], patch["input"])
    assert PATCH == "".join(pieces)
    assert ("function_call", '{"cmd":"ls"}') == (run["type"], run["arguments"])
    after = stage.vendors.last.heard
    assert [{"input": PATCH}, {"cmd": "ls"}] == [call.given for call in after.calls]
    assert ["done", "a.txt"] == [result for _, result in after.results]
    assert ["c2VhbA=="] == after.seals
    assert ("patched", True) == ((said := ResponsesCaller().streamed(again.body)).text, said.ended)


async def test_codex_hears_of_a_break(stage: Stage) -> None:
    """A stream that breaks says which response failed and why: without it Codex would ask again five times."""
    stage.vendors.say(Turn(text="half of", breaks=True, says="lost my mind"))

    answer = await stage.gateway.post("/v1/responses", codex_body("openai.chat"), headers=codex_headers(stage))

    said = list(values(answer.body))
    last = said[-1]
    assert "response.failed" == last["type"]
    assert "lost my mind" == last["response"]["error"]["message"]
    assert last["response"]["error"]["code"]
    assert said[0]["response"]["id"] == last["response"]["id"] != ""
    assert list(range(len(said))) == [event["sequence_number"] for event in said]


async def test_codex_tries_a_web_socket(stage: Stage) -> None:
    """A quick refusal, so that it goes on with POST."""
    headers = codex_headers(stage) | {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}

    answer = await stage.gateway.get(
        "/v1/responses", headers=headers | {"sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    )

    assert 426 == answer.status


async def test_cursor_checks_its_key(stage: Stage) -> None:
    """By the list of models, which must be there."""
    models = await stage.gateway.get("/v1/models")

    assert (200, "list") == (models.status, models.json["object"])
