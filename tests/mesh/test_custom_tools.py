"""A tool of free text, from both formats that have such, with every vendor whose format has only functions."""

from collections.abc import AsyncGenerator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.fakes.turns import Call, Turn
from tests.fakes.vendors import ALL
from tests.spoken import Stage, speaking

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATCH = '*** Begin Patch\n+ "é" 😀 \\n\n*** End Patch\n'
GRAMMAR = {"syntax": "lark", "definition": "start: /.+/"}
FREE = ("openai.responses", "openai.chat")
ASKED = Turn(calls=(Call("apply_patch", orjson.dumps({"input": PATCH}).decode(), "call_1"),))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """One gateway before every format."""
    async with speaking(tmp_path_factory.mktemp("gateway")) as stage:
        yield stage


def responses(model: str, *items: Any, stream: bool) -> dict[str, Any]:
    """A request as Codex sends it."""
    tool = {"type": "custom", "name": "apply_patch", "description": "edits", "format": {"type": "grammar", **GRAMMAR}}
    return {"model": model, "input": [{"role": "user", "content": "fix"}, *items], "tools": [tool], "stream": stream}


def chat(model: str, *messages: Any, stream: bool) -> dict[str, Any]:
    """The same in the sibling's form."""
    custom = {"name": "apply_patch", "description": "edits", "format": {"type": "grammar", "grammar": GRAMMAR}}
    said = [{"role": "user", "content": "fix"}, *messages]
    return {"model": model, "messages": said, "tools": [{"type": "custom", "custom": custom}], "stream": stream}


def values(body: bytes) -> list[Any]:
    """The events of a stream, decoded."""
    lines = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: ")]
    return [orjson.loads(line) for line in lines if line != b"[DONE]"]


def item_of(body: bytes, *, stream: bool) -> dict[str, Any]:
    """The call in an answer of `openai.responses`; in a stream its pieces say the same."""
    if not stream:
        return next(item for item in orjson.loads(body)["output"] if item["type"].endswith("call"))
    events = values(body)
    deltas = "".join(event["delta"] for event in events if event["type"] == "response.custom_tool_call_input.delta")
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    found: dict[str, Any] = next(item for item in done if item["type"].endswith("call"))
    assert deltas == found["input"]
    return found


def call_of(body: bytes, *, stream: bool) -> dict[str, Any]:
    """The call in an answer of `openai.chat`, put together."""
    if not stream:
        found: dict[str, Any] = orjson.loads(body)["choices"][0]["message"]["tool_calls"][0]
        return found
    call: dict[str, Any] = {"custom": {"name": "", "input": ""}}
    for event in values(body):
        for piece in event["choices"][0]["delta"].get("tool_calls", ()):
            call |= {name: piece[name] for name in ("id", "type") if name in piece}
            for name, text in piece.get("custom", {}).items():
                call["custom"][name] += text
    return call


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("caller", "vendor"),
    [(caller, name) for caller in FREE for name in ALL if name not in (caller, "openai.responses")],
)
async def test_free_text_tool_goes_there_and_back(stage: Stage, caller: str, vendor: str, *, stream: bool) -> None:
    """The vendor hears of a function with one text; the caller gets a call of its tool, and may go on with it."""
    stage.vendors.say(ASKED, Turn(text="patched"))
    own = caller == "openai.responses"
    path = "/v1/responses" if own else "/v1/chat/completions"
    build: Any = responses if own else chat

    answer = await stage.gateway.post(path, build(vendor, stream=stream))
    first = stage.vendors.last
    assert 200 == answer.status, answer.body
    if own:
        item = item_of(answer.body, stream=stream)
        assert ("custom_tool_call", "apply_patch", PATCH) == (item["type"], item["name"], item["input"])
        result = {"type": "custom_tool_call_output", "call_id": item["call_id"], "output": "done"}
        more: list[Any] = [item, result]
    else:
        call = call_of(answer.body, stream=stream)
        assert ("custom", {"name": "apply_patch", "input": PATCH}) == (call["type"], call["custom"])
        result = {"role": "tool", "tool_call_id": call["id"], "content": "done"}
        more = [{"role": "assistant", "content": None, "tool_calls": [call]}, result]
    again = await stage.gateway.post(path, build(vendor, *more, stream=stream))

    assert ["apply_patch"] == first.heard.tools
    assert b"start: /.+/" in first.body
    assert 200 == again.status, again.body
    heard = stage.vendors.last.heard
    assert [{"input": PATCH}] == [call.given for call in heard.calls]
    assert ["done"] == [result for _, result in heard.results]
