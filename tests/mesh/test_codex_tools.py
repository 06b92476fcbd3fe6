"""The tools of Codex at vendors whose formats know functions only: namespaces, shells, and what changes files."""

from collections.abc import AsyncGenerator
from typing import Any, Final

import orjson
import pytest
import pytest_asyncio

from tests.fakes.turns import Call, Turn
from tests.fakes.vendors import ALL
from tests.mesh.gateway import Answer
from tests.spoken import Stage, speaking

pytestmark = pytest.mark.asyncio(loop_scope="module")
OTHERS: Final = [name for name in ALL if name != "openai.responses"]
QUERY: Final = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
GRAMMAR: Final = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}
FIND: Final = {"type": "function", "name": "find", "description": "finds", "strict": False, "parameters": QUERY}
NAMESPACE: Final = {
    "type": "namespace",
    "name": "mcp__docs__",
    "description": "Pages of the handbook.",
    "tools": [FIND, {"type": "custom", "name": "note", "description": "notes", "format": GRAMMAR}],
}
TOOLS: Final[list[dict[str, Any]]] = [
    {**FIND, "description": "finds files"},
    NAMESPACE,
    {"type": "local_shell"},
    {"type": "shell", "environment": {"type": "local"}},
    {"type": "apply_patch"},
]
NAMES: Final = ["find", "mcp__docs__find", "mcp__docs__note", "local_shell", "shell", "apply_patch"]
EXEC: Final = {"type": "exec", "command": ["bash", "-lc", "ls"], "env": {}, "timeout_ms": 1000}
LINES: Final = {"commands": ["ls", "pwd"], "max_output_length": None, "timeout_ms": None}
EDIT: Final = {"type": "update_file", "path": "a.py", "diff": "@@\n-a\n+b\n"}
NOTE: Final = 'a "note"\n'
CALLS: Final = (
    Call("mcp__docs__find", '{"q":"x"}', "call_1"),
    Call("find", '{"q":"y"}', "call_2"),
    Call("mcp__docs__note", orjson.dumps({"input": NOTE}).decode(), "call_3"),
    Call("local_shell", '{"command":["bash","-lc","ls"],"timeout_ms":1000}', "call_4"),
    Call("shell", '{"commands":["ls","pwd"]}', "call_5"),
    Call("apply_patch", orjson.dumps(EDIT).decode(), "call_6"),
)
# Codex answers a local shell as it answers a function.
OUTPUTS: Final[list[dict[str, Any]]] = [
    {"type": "function_call_output", "output": "page 1"},
    {"type": "function_call_output", "output": "b.py"},
    {"type": "custom_tool_call_output", "output": "noted"},
    {"type": "function_call_output", "output": "a.py"},
    {
        "type": "shell_call_output",
        "output": [
            {"stdout": "a.py\n", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}},
            {"stdout": "", "stderr": "no\n", "outcome": {"type": "exit", "exit_code": 2}},
        ],
    },
    {"type": "apply_patch_call_output", "status": "completed", "output": "changed a.py"},
]
HEARD: Final = ["page 1", "b.py", "noted", "a.py", "a.py\nno\n[exit code 2]", "changed a.py"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """One gateway before every format."""
    async with speaking(tmp_path_factory.mktemp("gateway")) as stage:
        yield stage


def question(model: str, *items: Any, stream: bool, **more: Any) -> dict[str, Any]:
    """A turn of Codex."""
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "tidy up"}]}
    return {
        "model": model,
        "instructions": "You are Codex.",
        "input": [said, *items],
        "tools": TOOLS,
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "store": False,
        "stream": stream,
        "include": ["reasoning.encrypted_content"],
        **more,
    }


def calls_in(answer: Answer, *, stream: bool) -> list[dict[str, Any]]:
    """The items with calls, in a stream once they are done; its last event says the same."""
    if not stream:
        return [item for item in orjson.loads(answer.body)["output"] if item["type"].endswith("_call")]
    lines = [line for line in answer.body.split(b"\n") if line.startswith(b"data: ")]
    events = [orjson.loads(line.removeprefix(b"data: ")) for line in lines]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    added = [event["item"]["id"] for event in events if event["type"] == "response.output_item.added"]
    assert done == events[-1]["response"]["output"]
    assert added == [item["id"] for item in done]
    return [item for item in done if item["type"].endswith("_call")]


def said_by(item: dict[str, Any]) -> tuple[Any, ...]:
    """What a call is of, and what it says."""
    said = next(item[name] for name in ("arguments", "input", "action", "operation") if name in item)
    return item["type"], item.get("namespace"), item.get("name"), said


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("vendor", OTHERS)
async def test_every_tool_goes_there_and_back(stage: Stage, vendor: str, *, stream: bool) -> None:
    """The model hears of functions; the caller gets calls of the tools it declared, and goes on with their outputs."""
    stage.vendors.say(Turn(calls=CALLS), Turn(text="tidy"))

    answer = await stage.gateway.post("/v1/responses", question(vendor, stream=stream))
    first = stage.vendors.last
    assert 200 == answer.status, answer.body
    items = calls_in(answer, stream=stream)
    results = [{**output, "call_id": item["call_id"]} for output, item in zip(OUTPUTS, items, strict=True)]
    again = await stage.gateway.post("/v1/responses", question(vendor, *items, *results, stream=stream))

    assert NAMES == first.heard.tools
    assert b"Pages of the handbook." in first.body
    assert [
        ("function_call", "mcp__docs__", "find", '{"q":"x"}'),
        ("function_call", None, "find", '{"q":"y"}'),
        ("custom_tool_call", "mcp__docs__", "note", NOTE),
        ("local_shell_call", None, None, EXEC),
        ("shell_call", None, None, LINES),
        ("apply_patch_call", None, None, EDIT),
    ] == [said_by(item) for item in items]
    assert {"completed"} == {item["status"] for item in items}
    assert not {name for name in answer.headers.get("x-polyroute-dropped", "").split(",") if name.startswith("tools")}
    assert 200 == again.status, again.body
    heard = stage.vendors.last.heard
    assert [(call.name, call.given) for call in CALLS] == [(call.name, call.given) for call in heard.calls]
    assert HEARD == [result for _, result in heard.results]


@pytest.mark.parametrize("vendor", ["openai.chat", "anthropic.messages"])
async def test_what_no_other_vendor_has_is_named(stage: Stage, vendor: str) -> None:
    """Tools that OpenAI runs are dropped by name, inside of a namespace too; or refuse the call, when that is asked."""
    hosted = {**NAMESPACE, "tools": [FIND, {"type": "web_search"}]}
    tools = [{"type": "web_search"}, hosted, {"type": "shell", "environment": {"type": "container_auto"}}]
    stage.vendors.say(Turn(text="well"), Turn(text="very well"))
    exact = {"store": None, "include": None, "provider": {"require_parameters": True}}

    answer = await stage.gateway.post("/v1/responses", question(vendor, stream=False, tools=tools))
    heard = stage.vendors.last.heard
    refused = await stage.gateway.post("/v1/responses", question(vendor, stream=False, **exact, tools=tools))
    whole = await stage.gateway.post("/v1/responses", question(vendor, stream=False, **exact))

    named = set(answer.headers["x-polyroute-dropped"].split(","))
    assert {"tools.web_search", "tools.mcp__docs__.web_search", "tools.shell"} <= named
    assert ["mcp__docs__find"] == heard.tools
    assert 400 == refused.status
    assert b"tools.web_search" in refused.body
    assert 200 == whole.status, whole.body
