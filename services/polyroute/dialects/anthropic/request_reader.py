"""A client's request as a conversation."""

from collections.abc import Iterable
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Message, Part, Tool
from polyroute.dialects import jsontools
from polyroute.dialects.anthropic import blocks, reasoning
from polyroute.dialects.anthropic.common import WRONG_SHAPE, extras, text_or_empty
from polyroute.dialects.jsontools import invalid

MAX_USER_BYTES: Final = 512  # the contract's bound of a user's name
_SAMPLING: Final = ("temperature", "top_p", "top_k")
_MODES: Final = {
    "auto": pb.ToolChoice.MODE_AUTO,
    "any": pb.ToolChoice.MODE_REQUIRED,
    "none": pb.ToolChoice.MODE_NONE,
    "tool": pb.ToolChoice.MODE_NAMED,
}
_MEMBERS: Final = frozenset(
    {
        "model",
        "messages",
        "system",
        "max_tokens",
        "stream",
        "stop_sequences",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "metadata",
        *_SAMPLING,
    }
)
_CLIENT_TOOL: Final = frozenset({None, "custom"})  # `type` of tools that the caller's program runs


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
    except WRONG_SHAPE as error:
        raise invalid("a member of the request has a wrong type") from error


def _read(value: dict[str, Any]) -> ChatRequest:
    messages = value.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("the request has no messages", "messages")
    stop = value.get("stop_sequences")
    request = ChatRequest(
        model=value.get("model") or "",
        max_output_tokens=value.get("max_tokens"),
        stop=_texts(stop, "stop_sequences") if stop is not None else None,
    )
    if value.get("system"):
        request.messages.add(role=pb.ROLE_SYSTEM).parts.extend(blocks.read_asked(value["system"], "system"))
    for number, message in enumerate(messages):
        request.messages.extend(_read_message(message, f"messages[{number}]"))
    _read_tools(value.get("tools"), request)
    _read_choice(value.get("tool_choice"), request)
    given = {name: value[name] for name in _SAMPLING if value.get(name) is not None}
    if given:
        request.sampling.CopyFrom(pb.Sampling(**given))
    _read_thinking(value.get("thinking"), request)
    _read_output(value, request)
    _read_metadata(value.get("metadata"), request)
    for name, raw in extras(value, _MEMBERS).items():
        request.extensions[name] = raw
    return request


def _texts(value: object, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise invalid("expected a list of texts", where)
    return value


def _read_message(value: object, where: str) -> list[Message]:
    if not isinstance(value, dict):
        raise invalid("a message is not an object", where)
    role, content = value.get("role"), value.get("content")
    if content is None:
        raise invalid("a message has no content", f"{where}.content")
    if role == "assistant":
        said = blocks.read_said(content, f"{where}.content", answer_id=where)
        messages = [Message(role=pb.ROLE_ASSISTANT, parts=said)]
    elif role == "system":
        messages = [Message(role=pb.ROLE_SYSTEM, parts=blocks.read_asked(content, f"{where}.content"))]
    elif role == "user":
        messages = _by_role(blocks.read_asked(content, f"{where}.content"))
    else:
        raise invalid("a message has an unknown role", f"{where}.role")
    for name, raw in extras(value, ("role", "content")).items():
        messages[-1].extensions[name] = raw
    return messages


def _by_role(parts: Iterable[Part]) -> list[Message]:
    """A user's parts as messages: what tools answered is a message of its own."""
    out: list[Message] = []
    for part in parts:
        role = pb.ROLE_TOOL if part.HasField("tool_result") else pb.ROLE_USER
        if not out or out[-1].role != role:
            out.append(Message(role=role))
        out[-1].parts.append(part)
    return out or [Message(role=pb.ROLE_USER)]


def _read_tools(value: object, request: ChatRequest) -> None:
    if value is None:
        return
    if not isinstance(value, list):
        raise invalid("the tools are not a list", "tools")
    for number, tool in enumerate(value):
        if not isinstance(tool, dict):
            raise invalid("a tool is not an object", f"tools[{number}]")
        if tool.get("type") in _CLIENT_TOOL:
            request.tools.append(_read_tool(tool, f"tools[{number}]"))
    if len(request.tools) < len(value):
        # tools that the vendor itself runs or defines: no other dialect has them, and their places matter to its cache
        request.extensions["tools"] = jsontools.dumps(value)


def _read_tool(value: dict[str, Any], where: str) -> Tool:
    name = blocks.text_of(value, "name", where)
    if not name:
        raise invalid("a tool has no name", f"{where}.name")
    tool = Tool(
        kind=pb.TOOL_KIND_FUNCTION,
        name=name,
        description=blocks.text_of(value, "description", where),
        strict=value.get("strict"),
    )
    if value.get("input_schema") is not None:
        tool.parameters = jsontools.dumps(value["input_schema"])
    for member, raw in extras(value, ("name", "description", "input_schema", "strict")).items():
        tool.extensions[member] = raw
    return tool


def _read_choice(value: object, request: ChatRequest) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        raise invalid("the tool choice is not an object", "tool_choice")
    if value.get("disable_parallel_tool_use") is not None:
        request.parallel_tool_calls = not value["disable_parallel_tool_use"]
    mode = _MODES.get(text_or_empty(value.get("type")))
    if mode is None or set(value) - {"type", "name", "disable_parallel_tool_use"}:
        request.tool_choice.raw = jsontools.dumps(value)
        return
    request.tool_choice.mode = mode
    if mode == pb.ToolChoice.MODE_NAMED:
        request.tool_choice.name = blocks.text_of(value, "name", "tool_choice")


def _read_thinking(value: object, request: ChatRequest) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        raise invalid("thinking is not an object", "thinking")
    kind = value.get("type")
    request.reasoning.enabled = kind != "disabled"
    if value.get("budget_tokens") is not None:
        request.reasoning.max_tokens = value["budget_tokens"]
    if value != reasoning.outright(request.reasoning):
        request.extensions["thinking"] = jsontools.dumps(value)


def _read_output(value: dict[str, Any], request: ChatRequest) -> None:
    """`output_config`, and `output_format`, its older form, which stays an extension so that it returns as it came."""
    config = value.get("output_config")
    if config is not None and not isinstance(config, dict):
        raise invalid("output_config is not an object", "output_config")
    rest = dict(config or {})
    if isinstance(rest.get("effort"), str):
        request.reasoning.effort = rest.pop("effort")
    form = rest.get("format")
    if is_schema(form):
        _note_schema(rest.pop("format"), request)
    elif is_schema(value.get("output_format")):
        _note_schema(value["output_format"], request)
    if rest:
        request.extensions["output_config"] = jsontools.dumps(rest)


def is_schema(form: object) -> bool:
    """Whether a format is a JSON schema and nothing more."""
    return isinstance(form, dict) and set(form) == {"type", "schema"} and form["type"] == "json_schema"


def _note_schema(form: dict[str, Any], request: ChatRequest) -> None:
    request.response_format.type = pb.ResponseFormat.TYPE_JSON_SCHEMA
    request.response_format.schema = jsontools.dumps(form["schema"])


def _read_metadata(value: object, request: ChatRequest) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        raise invalid("the metadata is not an object", "metadata")
    user = value.get("user_id")
    if isinstance(user, str) and len(user.encode()) <= MAX_USER_BYTES:
        request.user = user
        value = {name: item for name, item in value.items() if name != "user_id"}
    if value:
        request.extensions["metadata"] = jsontools.dumps(value)
