"""`openai.responses` requests into conversations.

An item is not a message: what an assistant did between two messages of the user (reasoning, calls, text, searches) is
one message of the contract, its items in order. A text that follows a text begins a message of its own, so that both
can be told apart again.
"""

from collections.abc import Mapping
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Message, Part
from polyroute.dialects import jsontools
from polyroute.dialects.jsontools import invalid
from polyroute.dialects.openai import parts
from polyroute.dialects.responses import actions, content, items, tools
from polyroute.dialects.responses.common import LOGPROBS, carried, state_of, text_of, told

INSTRUCTIONS: Final = "instructions"  # kind of the state that marks them among messages of the system
OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
ACTED: Final = frozenset(actions.OF_OUTPUT)  # the same, of tools whose form this dialect knows itself
STORED: Final = ("previous_response_id", "conversation", "prompt")  # what stands for content that its vendor holds

_ROLES: Final = {
    "system": pb.ROLE_SYSTEM,
    "developer": pb.ROLE_DEVELOPER,
    "user": pb.ROLE_USER,
    "assistant": pb.ROLE_ASSISTANT,
}
_REASONING: Final = frozenset({"effort", "summary"})
_MEMBERS: Final = frozenset(
    {
        "model",
        "input",
        "instructions",
        "stream",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "max_output_tokens",
        "temperature",
        "top_p",
        "top_logprobs",
        "text",
        "reasoning",
        "include",
        "user",
        "metadata",
    }
)


def read_request(body: bytes) -> ChatRequest:
    """See `dialect.Dialect.read_request`."""
    try:
        value = jsontools.loads(body)
    except ValueError:
        raise invalid("the body is not valid JSON") from None
    if not isinstance(value, dict):
        raise invalid("the body is not a JSON object")
    try:
        return _read(value)
    except (TypeError, ValueError, AttributeError) as error:  # a member of a type that the contract does not take
        raise invalid("a member of the request has a wrong type") from error


def _read(value: dict[str, Any]) -> ChatRequest:
    request = ChatRequest(
        model=value.get("model") or "",
        messages=_read_messages(value),
        parallel_tool_calls=value.get("parallel_tool_calls"),
        max_output_tokens=value.get("max_output_tokens"),
        user=value.get("user") or "",
        metadata=value.get("metadata") or {},
    )
    tools.read_tools(value.get("tools"), request)
    tools.read_choice(value.get("tool_choice"), request)
    _read_sampling(value, request)
    _read_text(value.get("text"), request)
    _read_reasoning(value.get("reasoning"), request)
    for name, raw in parts.extras(value, _MEMBERS).items():
        request.extensions[name] = raw
    return request


def _read_messages(value: Mapping[str, Any]) -> list[Message]:
    out: list[Message] = []
    given = value.get("instructions")
    if given is not None:
        if not isinstance(given, str):
            raise invalid("the instructions are not text", "instructions")
        mark = Part(text=pb.TextPart(text=given), state=state_of(INSTRUCTIONS, {}))
        out.append(Message(role=pb.ROLE_SYSTEM, parts=[mark]))
    said = value.get("input")
    if isinstance(said, str):
        out.append(Message(role=pb.ROLE_USER, parts=content.read_content(said, "input")))
    elif isinstance(said, list):
        _read_items(said, out)
    elif said is not None:
        raise invalid("the input is neither text nor a list", "input")
    if not said and not any(value.get(name) for name in STORED):
        raise invalid("the request has no input", "input")
    return out


def _read_items(values: list[Any], out: list[Message]) -> None:
    acted: dict[str, str] = {}  # ids of items that call such tools, and of their calls -> the latter
    for number, value in enumerate(values):
        where = f"input[{number}]"
        if not isinstance(value, dict):
            raise invalid("an item is not an object", where)
        kind = value.get("type") or ("message" if "role" in value else "item_reference" if "id" in value else "")
        if not isinstance(kind, str) or not kind:
            raise invalid("an item has no type", f"{where}.type")
        if kind == "message":
            _read_message(value, where, out)
        elif kind in OUTPUTS:
            out.append(_read_output(value, kind, where))
        elif kind in ACTED and (call_id := _answered(value, acted)):
            out.append(_read_acted(value, kind, call_id, where))
        else:
            _read_turn(value, kind, number, out)
            if kind in actions.OF_CALL and (call_id := out[-1].parts[-1].tool_call.id):
                acted |= {call_id: call_id, text_of(value.get("id")): call_id}


def _read_message(value: Mapping[str, Any], where: str, out: list[Message]) -> None:
    role = _ROLES.get(text_of(value.get("role")))
    if role is None:
        raise invalid("a message has an unknown role", f"{where}.role")
    if role == pb.ROLE_ASSISTANT:
        _read_answer(value, where, out)
        return
    message = Message(role=role, parts=content.read_content(value.get("content"), f"{where}.content"))
    rest = told(value, "type", "role", "content")
    if rest and message.parts:
        message.parts[0].state.CopyFrom(state_of("message", {"item": rest}))
    out.append(message)


def _read_answer(value: Mapping[str, Any], where: str, out: list[Message]) -> None:
    said = value.get("content")
    if said is not None and not isinstance(said, str | list):
        raise invalid("the content is neither text nor a list", f"{where}.content")
    if isinstance(said, list) and not all(isinstance(entry, dict) for entry in said):
        raise invalid("a part of the content is not an object", f"{where}.content")
    turn = out[-1] if out and out[-1].role == pb.ROLE_ASSISTANT else None
    if turn is None or any(items.kind_of(part) == "message" for part in turn.parts):
        turn = Message(role=pb.ROLE_ASSISTANT)
        out.append(turn)
    turn.parts.extend(items.read_item(value, ()))


def _read_turn(value: Mapping[str, Any], kind: str, number: int, out: list[Message]) -> None:
    """An item that belongs to a turn of the assistant."""
    if kind in items.CALLS and not value.get("call_id"):
        raise invalid("a call has no id", f"input[{number}].call_id")
    kept = carried(value.get("encrypted_content")) if kind == items.REASONING else None
    if kept and not kept.HasField("reasoning"):
        _give_back(kept, out)
        return
    if not out or out[-1].role != pb.ROLE_ASSISTANT:
        out.append(Message(role=pb.ROLE_ASSISTANT))
    out[-1].parts.extend(items.read_item(dict(value, type=kind), number))


def _give_back(kept: Part, out: list[Message]) -> None:
    """Gives a text, a picture or a call of an earlier turn its state back."""
    for message in reversed(out):
        for part in reversed(message.parts):
            if kept.HasField("tool_call") and part.tool_call.id != kept.tool_call.id:
                continue
            if part.WhichOneof("part") == kept.WhichOneof("part") and message.role == pb.ROLE_ASSISTANT:
                part.state.CopyFrom(kept.state)
                return


def _read_output(value: Mapping[str, Any], kind: str, where: str) -> Message:
    if not value.get("call_id"):
        raise invalid("an output names no call", f"{where}.call_id")
    said = content.read_content(value.get("output"), f"{where}.output")
    part = Part(tool_result=pb.ToolResult(tool_call_id=value["call_id"], parts=said))
    rest = told(value, "type", "call_id", "output")
    if rest or kind != "function_call_output":
        part.state.CopyFrom(state_of(kind, rest))
    return Message(role=pb.ROLE_TOOL, parts=[part])


def _answered(value: Mapping[str, Any], acted: Mapping[str, str]) -> str:
    """The call that an output answers; empty when it is not in the conversation as one that its caller answers."""
    return next((acted[name] for name in (value.get("call_id"), value.get("id")) if name and name in acted), "")


def _read_acted(value: Mapping[str, Any], kind: str, call_id: str, where: str) -> Message:
    """An output of a tool whose form this dialect knows itself; kept whole beside what it tells a model."""
    said = content.read_content(actions.told_by(value), f"{where}.output")
    result = pb.ToolResult(tool_call_id=call_id, parts=said, failed=value.get("status") == "failed")
    return Message(role=pb.ROLE_TOOL, parts=[Part(tool_result=result, state=state_of(kind, told(value, "type")))])


def _read_sampling(value: Mapping[str, Any], request: ChatRequest) -> None:
    for name in ("temperature", "top_p", "top_logprobs"):
        if value.get(name) is not None:
            setattr(request.sampling, name, value[name])
    include = value.get("include")
    if include is None:
        return
    rest = [word for word in include if word != LOGPROBS]
    if len(rest) != len(include):
        request.sampling.logprobs = True
    if rest:
        request.extensions["include"] = jsontools.dumps(rest)


def _read_text(value: Any, request: ChatRequest) -> None:
    if value is None:
        return
    if value.get("format") is not None:
        tools.read_format(value["format"], request.response_format)
    if value.get("verbosity") is not None:
        request.extensions["verbosity"] = jsontools.dumps(value["verbosity"])
    rest = told(value, "format", "verbosity")
    if rest:
        request.extensions["text"] = jsontools.dumps(rest)


def _read_reasoning(value: Any, request: ChatRequest) -> None:
    if value is None:
        return
    request.reasoning.effort = value.get("effort") or ""
    # `generate_summary` is the older name of the same
    request.reasoning.summary = value.get("summary") or value.get("generate_summary") or ""
    rest = told(value, *_REASONING, "generate_summary")
    if rest:
        request.extensions["reasoning"] = jsontools.dumps(rest)
