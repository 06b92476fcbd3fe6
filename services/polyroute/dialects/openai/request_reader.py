"""`openai.chat` requests of clients: JSON into a conversation; `tools` reads what may be called."""

from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Message, Part
from polyroute.dialects import jsontools
from polyroute.dialects.jsontools import invalid
from polyroute.dialects.openai import parts, tools
from polyroute.dialects.openai.common import SAMPLING

_ROLES: Final = {
    "system": pb.ROLE_SYSTEM,
    "developer": pb.ROLE_DEVELOPER,
    "user": pb.ROLE_USER,
    "assistant": pb.ROLE_ASSISTANT,
    "tool": pb.ROLE_TOOL,
    "function": pb.ROLE_TOOL,
}
_REASONING: Final = ("reasoning_content", "reasoning", "reasoning_details")
_ALONE: Final = 2  # members of a message that has its role and its content only
_MESSAGE_MEMBERS: Final = frozenset(
    {
        "role",
        "content",
        "name",
        "tool_calls",
        "tool_call_id",
        "function_call",
        "refusal",
        "audio",
        "images",
        *_REASONING,
    }
)
_MEMBERS: Final = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "tools",
        "functions",
        "tool_choice",
        "function_call",
        "parallel_tool_calls",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "n",
        "response_format",
        "reasoning_effort",
        "reasoning",
        "user",
        "metadata",
        "logit_bias",
        *SAMPLING,
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
    messages = value.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("the request has no messages", "messages")
    most = value.get("max_completion_tokens")
    stop = value.get("stop")
    request = ChatRequest(
        model=value.get("model") or "",
        parallel_tool_calls=value.get("parallel_tool_calls"),
        max_output_tokens=most if most is not None else value.get("max_tokens"),
        stop=[stop] if isinstance(stop, str) else stop,
        choices=value.get("n"),
        user=value.get("user") or "",
        metadata=value.get("metadata") or {},
    )
    for number, message in enumerate(messages):
        _read_message(message, request.messages.add(), f"messages[{number}]")
    tools.read_tools(value, request)
    _read_sampling(value, request)
    tools.read_format(value.get("response_format"), request)
    _read_reasoning(value, request)
    for name, raw in parts.extras(value, _MEMBERS).items():
        request.extensions[name] = raw
    return request


def _read_message(value: object, message: Message, where: str) -> None:
    """Reads into a message where it stays: one that is put into another is copied."""
    if not isinstance(value, dict):
        raise invalid("a message is not an object", where)
    role = _ROLES.get(value.get("role") or "")
    if role is None:
        raise invalid("a message has an unknown role", f"{where}.role")
    message.role = role
    content = value.get("content")
    if len(value) == _ALONE and role != pb.ROLE_TOOL and isinstance(content, str):  # which most are
        if content:
            message.parts.add().text.text = content
        return
    message.name = value.get("name") or ""
    if role == pb.ROLE_TOOL:
        _read_tool_result(value, message, where)
    else:
        message.parts.extend(parts.read_reasoning(value))
        message.parts.extend(_read_content(content, f"{where}.content"))
        _read_assistant(value, message)
    for name, raw in parts.extras(value, _MESSAGE_MEMBERS).items():
        message.extensions[name] = raw


def _read_content(content: object, where: str) -> list[Part]:
    """`content` in any of its forms: text, a list of parts, nothing."""
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [Part(text=pb.TextPart(text=content))]
    if not isinstance(content, list):
        raise invalid("the content is neither text nor a list", where)
    return [part for number, item in enumerate(content) for part in parts.read_part(item, f"{where}[{number}]")]


def _read_tool_result(value: dict[str, Any], message: Message, where: str) -> None:
    message.name = ""
    message.parts.append(
        Part(
            tool_result=pb.ToolResult(
                tool_call_id=value.get("tool_call_id") or "",
                name=value.get("name") or "",
                parts=_read_content(value.get("content"), f"{where}.content"),
            )
        )
    )


def _read_assistant(value: dict[str, Any], message: Message) -> None:
    if value.get("refusal"):
        message.parts.append(Part(refusal=pb.RefusalPart(text=value["refusal"])))
    if isinstance(value.get("audio"), dict):
        message.parts.append(Part(audio=pb.AudioPart(id=value["audio"].get("id") or "")))
    if value.get("images"):
        message.parts.extend(parts.pictures_in(value["images"], message.extensions))
    for call in value.get("tool_calls") or ():
        message.parts.append(parts.read_call(call))
    if isinstance(value.get("function_call"), dict):
        message.parts.append(parts.read_call({"function": value["function_call"]}))


def _read_sampling(value: dict[str, Any], request: ChatRequest) -> None:
    given = {name: value[name] for name in SAMPLING if value.get(name) is not None}
    if given or value.get("logit_bias"):
        request.sampling.CopyFrom(pb.Sampling(**given, logit_bias=value.get("logit_bias") or {}))


def _read_reasoning(value: dict[str, Any], request: ChatRequest) -> None:
    if "reasoning" not in value and "reasoning_effort" not in value:
        return
    options = value.get("reasoning")
    given = dict(options) if isinstance(options, dict) else {}
    effort = value.get("reasoning_effort") or given.get("effort")
    if effort:
        request.reasoning.effort = effort
    for name in ("max_tokens", "enabled", "summary"):
        if given.get(name) is not None:
            setattr(request.reasoning, name, given[name])
    rest = {name: item for name, item in given.items() if name not in ("effort", "max_tokens", "enabled", "summary")}
    if rest or (options is not None and not isinstance(options, dict)):
        request.extensions["reasoning"] = jsontools.dumps(options)
