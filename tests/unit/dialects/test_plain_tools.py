"""Namespaces and tools of the caller's machine, at vendors that have neither and at those that have both."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent, ChatRequest, Message, Part, Tool, ToolCall, ToolResult
from polyroute.dialects import openai_chat, openai_responses
from polyroute.dialects.events import take_apart
from polyroute.dialects.plain_tools import PlainTools, as_functions

OWN = "openai.responses"
RESPONSES = openai_responses.DIALECT
FIND = {"type": "function", "name": "find", "parameters": {"type": "object"}}
TAKEN = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
ANSWER = {"id": "resp_1", "object": "response", "model": "m", "created_at": 1, "status": "completed"}
SHELL = {
    "type": "shell_call",
    "id": "sh_1",
    "call_id": "call_1",
    "status": "completed",
    "action": {"commands": ["ls"], "max_output_length": None, "timeout_ms": 5},
}
EXEC = {
    "type": "local_shell_call",
    "id": "lsh_1",
    "call_id": "call_1",
    "status": "completed",
    "action": {"type": "exec", "command": ["ls"], "env": {"A": "b"}, "working_directory": "/tmp", "user": None},
}
EDIT = {
    "type": "apply_patch_call",
    "id": "apc_1",
    "call_id": "call_1",
    "status": "completed",
    "operation": {"type": "create_file", "path": "a", "diff": "+a\n"},
}
HOSTED = {**SHELL, "environment": {"type": "container_reference", "container_id": "cntr_1"}}


def read(items: list[Any] | None = None, tools: list[Any] | None = None, **more: Any) -> ChatRequest:
    """A request of this format."""
    said = [{"role": "user", "content": "x"}, *(items or [])]
    return RESPONSES.read_request(json.dumps({"model": "m", "input": said, "tools": tools or [], **more}).encode())


def namespace(name: str, *tools: Any) -> dict[str, Any]:
    """A namespace."""
    return {"type": "namespace", "name": name, "description": f"About {name}.", "tools": list(tools)}


def plain(request: ChatRequest) -> ChatRequest:
    """The same for a vendor that knows functions only."""
    return as_functions(request, source=OWN, target="openai.chat")[0]


def calls_of(request: ChatRequest) -> list[ToolCall]:
    """The calls in a conversation."""
    return [part.tool_call for message in request.messages for part in message.parts if part.HasField("tool_call")]


def written(request: ChatRequest, source: str = "") -> dict[str, Any]:
    """A request to a vendor of this format."""
    value: dict[str, Any] = json.loads(RESPONSES.write_request(request, model="m", stream=False, source=source)[0])
    return value


@pytest.mark.parametrize(
    ("declared", "name"),
    [
        (namespace("crm", FIND), "crm__find"),
        (namespace("mcp__docs__", {**FIND, "name": "_find"}), "mcp__docs__find"),
    ],
)
def test_names_are_joined_as_codex_joins_them(declared: Any, name: str) -> None:
    """Two underscores, and no more."""
    assert [name] == [tool.name for tool in plain(read(tools=[declared])).tools]


@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=80), st.text(min_size=1, max_size=80)),
        min_size=1,
        max_size=5,
        unique=True,
    ),
    st.lists(st.sampled_from(["a__b", "shell", "local_shell"]), unique=True),
)
def test_names_are_taken_everywhere_and_stand_for_one_tool(pairs: list[tuple[str, str]], others: list[str]) -> None:
    """However long or odd they are, and whatever the caller calls its own functions."""
    tools = [Tool(kind=pb.TOOL_KIND_FUNCTION, name=name, namespace=space) for space, name in [*pairs, ("a", "b")]]
    own = [Tool(kind=pb.TOOL_KIND_FUNCTION, name=name) for name in others]
    request = ChatRequest(model="m", tools=[*tools, *own, Tool(kind=pb.TOOL_KIND_SHELL, name="shell")])

    changed, originals = as_functions(request, source="", target="openai.chat")

    names = [tool.name for tool in changed.tools]
    assert len(set(names)) == len({(tool.namespace, tool.name, tool.kind) for tool in request.tools})
    assert all(TAKEN.fullmatch(name) for name in names)
    for tool, name in zip(request.tools, names, strict=True):
        assert name in others or (tool.namespace, tool.name) == originals[name][:2]


def test_other_conversations_are_left_alone() -> None:
    """Not even copied; nor is any for a vendor that knows such tools."""
    usual, special = read(tools=[FIND]), read(tools=[namespace("n", FIND)])

    assert as_functions(usual, source=OWN, target="openai.chat")[0] is usual
    assert as_functions(special, source="", target=OWN)[0] is special


def test_earlier_calls_keep_their_names_when_the_tool_is_gone() -> None:
    """And go by the same name as before."""
    call = {"type": "function_call", "call_id": "c", "name": "find", "namespace": "crm", "arguments": "{}"}

    assert ["crm__find"] == [found.name for found in calls_of(plain(read([call], [FIND])))]


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"type": "function", "name": "find"}, "find"),
        ({"type": "function", "name": "find", "namespace": "crm"}, "crm__find"),
        ({"type": "function", "name": "close"}, "crm__close"),
        ({"type": "shell"}, "shell"),
    ],
)
def test_choice_goes_by_the_name_that_the_vendor_knows(choice: Any, said: str) -> None:
    """A tool without a namespace comes first."""
    tools = [FIND, namespace("crm", FIND, {**FIND, "name": "close"}), {"type": "shell"}]

    changed = plain(read(tools=tools, tool_choice=choice))

    assert (pb.ToolChoice.MODE_NAMED, said, b"") == (
        changed.tool_choice.mode,
        changed.tool_choice.name,
        changed.tool_choice.raw,
    )


def test_list_of_allowed_tools_goes_by_those_names() -> None:
    """Shells among them."""
    allowed = {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "local_shell"}, {"type": "function", "name": "find"}],
    }

    changed = plain(read(tools=[namespace("crm", FIND), {"type": "local_shell"}], tool_choice=allowed))

    listed = json.loads(changed.tool_choice.raw)["allowed_tools"]["tools"]
    assert ["local_shell", "crm__find"] == [tool["function"]["name"] for tool in listed]


@pytest.mark.parametrize(
    ("tool", "arguments", "member", "said"),
    [
        (
            "local_shell",
            '{"command":"ls -a"}',
            "action",
            {"type": "exec", "command": ["bash", "-lc", "ls -a"], "env": {}},
        ),
        (
            "local_shell",
            '{"command":["a"],"env":{"N":1},"timeout_ms":2.0,"workdir":"/"}',
            "action",
            {"type": "exec", "command": ["a"], "env": {"N": "1"}, "timeout_ms": 2},
        ),
        ("shell", '{"commands":"ls"}', "action", {"commands": ["ls"], "max_output_length": None, "timeout_ms": None}),
        (
            "apply_patch",
            '{"type":"delete_file","path":"a","diff":""}',
            "operation",
            {"type": "delete_file", "path": "a"},
        ),
        ("local_shell", '{"command":[', "arguments", '{"command":['),
        ("shell", '{"command":["ls"]}', "arguments", '{"command":["ls"]}'),
        ("apply_patch", '{"type":"create_file","path":"a"}', "arguments", '{"type":"create_file","path":"a"}'),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_what_a_model_writes_is_an_action_or_kept_as_text(
    tool: str, arguments: str, member: str, said: Any, size: int
) -> None:
    """Arguments that do not say what to do come as a call of a function: its caller can tell the model so."""
    _, originals = as_functions(read(tools=[{"type": tool}]), source=OWN, target="openai.chat")
    pieces = [arguments[at : at + size] for at in range(0, len(arguments), size)]
    deltas: list[dict[str, Any]] = [
        {"id": "call_1", "type": "function", "function": {"name": tool, "arguments": ""}},
        *({"function": {"arguments": piece}} for piece in pieces),
    ]
    events: list[Any] = [
        {"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **delta}]}}]} for delta in deltas
    ]
    end = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    reader = PlainTools(openai_chat.DIALECT, originals).reader()
    writer = RESPONSES.writer(request_id="", model="m", include_usage=True)

    steps = reader.feed([("", json.dumps(event).encode()) for event in [*events, end]] + [("", b"[DONE]")])
    data = b"".join(writer.feed([step]) for step in steps)

    done = [json.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: ")]
    (item,) = done[-1]["response"]["output"]
    assert said == item[member]
    assert "call_1" == item["call_id"]
    assert item["type"] == ("function_call" if member == "arguments" else f"{tool}_call")
    assert [item] == [event["item"] for event in done if event["type"] == "response.output_item.done"]


@pytest.mark.parametrize("item", [EXEC, SHELL, EDIT, HOSTED], ids=lambda item: item["type"])
def test_calls_return_to_their_own_vendors_as_they_came(item: Any) -> None:
    """With their outputs, whoever carried them out."""
    output: dict[str, Any] = {
        "type": f"{item['type']}_output",
        "call_id": "call_1",
        "output": "a",
        "status": "completed",
    }
    if item["type"] == "shell_call":
        output["output"] = [{"stdout": "a", "stderr": "", "outcome": {"type": "timeout"}}]
    tools = [{"type": item["type"].removesuffix("_call")}, namespace("n", FIND, {"type": "x"}), namespace("n", FIND)]

    request = read([item, output], tools)

    again = written(request, OWN)
    assert [item, output] == again["input"][1:]
    assert tools == again["tools"]


def test_output_of_a_local_shell_names_its_call_by_an_id() -> None:
    """As OpenAI's reference has it; a model hears what its form says."""
    outputs: list[Any] = [
        {"type": "local_shell_call_output", "id": name, "output": "a"} for name in ("call_1", "lsh_1")
    ]

    found = [plain(read([EXEC, output])).messages[-1].parts[0].tool_result for output in outputs]

    assert [("call_1", "a")] * 2 == [(result.tool_call_id, result.parts[0].text.text) for result in found]


def test_what_ran_at_the_vendor_is_no_call() -> None:
    """Nor is there an output to be given: both stay what they are, for their vendor."""
    output = {"type": "shell_call_output", "call_id": "call_1", "output": []}

    request = plain(read([HOSTED, output, {"role": "user", "content": "y"}]))

    assert not calls_of(request)
    assert not [part for message in request.messages for part in message.parts if part.HasField("tool_result")]


@pytest.mark.parametrize("item", [EXEC, SHELL, EDIT, HOSTED], ids=lambda item: item["type"])
def test_stream_of_their_own_vendor_reads_like_the_answer(item: Any) -> None:
    """A call waits for its caller; what ran at the vendor does not."""
    whole = {**ANSWER, "output": [item]}
    events = [
        {"type": "response.created", "response": {**ANSWER, "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "status": "in_progress"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    meter = RESPONSES.meter(hide_usage=False)

    response = RESPONSES.read_answer(json.dumps(whole).encode())
    steps = RESPONSES.reader().feed([("", json.dumps(event).encode()) for event in events])
    metered = meter.feed([("", json.dumps(event).encode()) for event in events])

    waits = item is not HOSTED
    reason = pb.FINISH_REASON_TOOL_CALLS if waits else pb.FINISH_REASON_STOP
    assert [event for event in steps if event.HasField("tool_call")] == [
        event for event in take_apart(response) if event.HasField("tool_call")
    ]
    assert waits == any(event.HasField("tool_call") for event in steps)
    assert {reason} == {response.choices[0].finish_reason, metered.finish}
    assert item == json.loads(RESPONSES.write_answer(response, request_id="", model="m"))["output"][0]


def test_typed_caller_has_them_too() -> None:
    """At a vendor that knows them they are its own: what groups tools, calls and their outputs."""
    calls = [
        ToolCall(id="a", name="find", namespace="crm", arguments="{}", kind=pb.TOOL_KIND_FUNCTION),
        ToolCall(id="b", name="local_shell", arguments='{"command":["ls"]}', kind=pb.TOOL_KIND_LOCAL_SHELL),
        ToolCall(id="c", name="shell", arguments='{"commands":["ls"]}', kind=pb.TOOL_KIND_SHELL),
        ToolCall(
            id="d", name="apply_patch", arguments='{"type":"delete_file","path":"a"}', kind=pb.TOOL_KIND_APPLY_PATCH
        ),
    ]
    said = Part(text=pb.TextPart(text="x"))
    results = [
        Part(tool_result=ToolResult(tool_call_id=call.id, parts=[said], failed=call.id == "d")) for call in calls
    ]
    request = ChatRequest(
        model="m",
        tools=[
            Tool(name="find", namespace="crm", namespace_description="Customers."),
            Tool(name="close", namespace="crm"),
            Tool(name="shell", kind=pb.TOOL_KIND_SHELL),
        ],
        messages=[
            Message(role=pb.ROLE_ASSISTANT, parts=[Part(tool_call=call) for call in calls]),
            Message(role=pb.ROLE_TOOL, parts=results),
        ],
    )
    request.tool_choice.mode, request.tool_choice.name = pb.ToolChoice.MODE_NAMED, "shell"

    value = written(request)

    group, shell = value["tools"]
    assert ("crm", "Customers.", ["find", "close"]) == (
        group["name"],
        group["description"],
        [tool["name"] for tool in group["tools"]],
    )
    assert ({"type": "shell"}, {"type": "shell"}) == (shell, value["tool_choice"])
    assert [
        {"type": "function_call", "call_id": "a", "name": "find", "namespace": "crm", "arguments": "{}"},
        {
            "type": "local_shell_call",
            "status": "completed",
            "call_id": "b",
            "action": {"type": "exec", "command": ["ls"], "env": {}},
        },
        {
            "type": "shell_call",
            "status": "completed",
            "call_id": "c",
            "action": {"commands": ["ls"], "max_output_length": None, "timeout_ms": None},
        },
        {
            "type": "apply_patch_call",
            "status": "completed",
            "call_id": "d",
            "operation": {"type": "delete_file", "path": "a"},
        },
        {"type": "function_call_output", "call_id": "a", "output": "x"},
        {"type": "local_shell_call_output", "call_id": "b", "id": "b", "output": "x"},
        {
            "type": "shell_call_output",
            "call_id": "c",
            "output": [{"stdout": "x", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}],
        },
        {"type": "apply_patch_call_output", "call_id": "d", "status": "failed", "output": "x"},
    ] == value["input"]


def test_action_waits_for_what_comes_late() -> None:
    """A text may come before the model has said all of it; nothing is told twice, or of half a command."""
    pieces = ['{"commands":["l', 's"]}']
    steps = [
        ChatEvent(tool_call=pb.ToolCallDelta(id="c", name="shell", kind=pb.TOOL_KIND_SHELL, arguments=pieces[0])),
        ChatEvent(text=pb.TextDelta(text="x")),
        ChatEvent(tool_call=pb.ToolCallDelta(arguments=pieces[1])),
        ChatEvent(text=pb.TextDelta(text="y")),
        ChatEvent(tool_call=pb.ToolCallDelta(arguments=" ")),
        ChatEvent(finished=pb.ChoiceFinished(reason=pb.FINISH_REASON_TOOL_CALLS)),
    ]
    writer = RESPONSES.writer(request_id="", model="m", include_usage=True)

    data = b"".join(writer.feed([step]) for step in steps)

    output = json.loads(data.strip().rpartition(b"data: ")[2])["response"]["output"]
    assert ["ls"] == next(item["action"]["commands"] for item in output if item["type"] == "shell_call")
    assert 1 == sum(item["type"].endswith("_call") for item in output)


@pytest.mark.parametrize("together", [True, False])
def test_calls_keep_their_order(*, together: bool) -> None:
    """Though an action is told when it is whole, and a call of a function as it is made."""
    kinds = (pb.TOOL_KIND_SHELL, pb.TOOL_KIND_FUNCTION, pb.TOOL_KIND_SHELL)
    steps = [
        ChatEvent(
            tool_call=pb.ToolCallDelta(index=at, id=f"c{at}", name="t", kind=kind, arguments='{"commands":["a"]}')
        )
        for at, kind in enumerate(kinds)
    ]
    steps.append(ChatEvent(finished=pb.ChoiceFinished(reason=pb.FINISH_REASON_TOOL_CALLS)))
    writer = RESPONSES.writer(request_id="", model="m", include_usage=True)

    data = b"".join(writer.feed(batch) for batch in ([steps] if together else [[step] for step in steps]))

    output = json.loads(data.strip().rpartition(b"data: ")[2])["response"]["output"]
    assert ["c0", "c1", "c2"] == [item["call_id"] for item in output]


def test_state_of_a_call_returns_with_it() -> None:
    """A seal that another vendor put on a call goes to the client in an item of its own, and comes back."""
    seal = pb.VendorState(dialect="gemini.generate", kind="signature", data=b"s")
    step = pb.ToolCallDelta(
        id="call_1", name="shell", kind=pb.TOOL_KIND_SHELL, arguments='{"commands":["ls"]}', state=seal
    )
    writer = RESPONSES.writer(request_id="", model="m", include_usage=True)

    data = writer.feed(
        [ChatEvent(tool_call=step), ChatEvent(finished=pb.ChoiceFinished(reason=pb.FINISH_REASON_TOOL_CALLS))]
    )

    last = json.loads(data.strip().rpartition(b"data: ")[2])
    (message,) = read(last["response"]["output"]).messages[1:]
    assert [seal] == [part.state for part in message.parts]
