"""`openai.chat` requests: JSON into a conversation, and a conversation into JSON."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Message, Part, Tool
from polyroute.dialects import drawn, foreign, jsontools
from polyroute.dialects.jsontools import invalid
from polyroute.dialects.openai import parts
from polyroute.dialects.openai.common import CHAT, made_call_id

_ROLES: Final = {
    "system": pb.ROLE_SYSTEM,
    "developer": pb.ROLE_DEVELOPER,
    "user": pb.ROLE_USER,
    "assistant": pb.ROLE_ASSISTANT,
    "tool": pb.ROLE_TOOL,
    "function": pb.ROLE_TOOL,
}
_ROLE_NAMES: Final = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
    pb.ROLE_TOOL: "tool",
}
_IMAGES: Final = "images"
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
_SAMPLING: Final = (
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "logprobs",
    "top_logprobs",
    "top_k",
)
_STANDARD: Final = frozenset(_SAMPLING) - {"top_k"}
_MODES: Final = {
    "auto": pb.ToolChoice.MODE_AUTO,
    "none": pb.ToolChoice.MODE_NONE,
    "required": pb.ToolChoice.MODE_REQUIRED,
    "any": pb.ToolChoice.MODE_REQUIRED,
}
_MODE_NAMES: Final = {mode: name for name, mode in reversed(_MODES.items())}
_FORMATS: Final = {"text": pb.ResponseFormat.TYPE_TEXT, "json_object": pb.ResponseFormat.TYPE_JSON_OBJECT}
_FORMAT_NAMES: Final = {form: name for name, form in _FORMATS.items()}
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
        *_SAMPLING,
    }
)


@dataclass(frozen=True, slots=True)
class Options:
    """How the vendors of this dialect differ in what they take; a provider sets what its vendor needs.

    Attributes:
        max_tokens_member: Name of the bound on the answer: `max_tokens`, or `max_completion_tokens`.
        developer_role: It knows the role `developer`; otherwise such messages are sent as `system`.
        reasoning_member: Where earlier reasoning goes back: `reasoning_content`, `reasoning`, or empty for not at all.
            Entries of `reasoning_details` go back in any case: a vendor that made them expects them.
        tool_images: It takes pictures in tool results; otherwise they follow in a message of the user.
        stream_usage: It knows `stream_options`.
        accepts: Members beyond the standard that it takes: `top_k`, `reasoning`, `cache_control`; `images` for pictures
            in turns of the assistant, which otherwise the user shows.
    """

    max_tokens_member: str = "max_tokens"
    developer_role: bool = False
    reasoning_member: str = ""
    tool_images: bool = False
    stream_usage: bool = True
    accepts: frozenset[str] = frozenset()


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
    _read_tools(value, request)
    _read_sampling(value, request)
    _read_format(value.get("response_format"), request)
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
        message.parts.extend(read_reasoning(value))
        message.parts.extend(read_content(content, f"{where}.content"))
        _read_assistant(value, message)
    for name, raw in parts.extras(value, _MESSAGE_MEMBERS).items():
        message.extensions[name] = raw


def read_content(content: object, where: str) -> list[Part]:
    """`content` in any of its forms: text, a list of parts, nothing."""
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [Part(text=pb.TextPart(text=content))]
    if not isinstance(content, list):
        raise invalid("the content is neither text nor a list", where)
    return [part for number, item in enumerate(content) for part in parts.read_part(item, f"{where}[{number}]")]


def read_reasoning(value: dict[str, Any]) -> list[Part]:
    """The reasoning of a message, by whichever member it stands in; details carry the vendor's seals."""
    details = value.get("reasoning_details")
    if isinstance(details, list) and details:
        return [parts.read_detail(detail) for detail in details if isinstance(detail, dict)]
    text = value.get("reasoning_content") or value.get("reasoning")
    return [Part(reasoning=pb.ReasoningPart(text=text))] if isinstance(text, str) and text else []


def _read_tool_result(value: dict[str, Any], message: Message, where: str) -> None:
    message.name = ""
    message.parts.append(
        Part(
            tool_result=pb.ToolResult(
                tool_call_id=value.get("tool_call_id") or "",
                name=value.get("name") or "",
                parts=read_content(value.get("content"), f"{where}.content"),
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


def _read_tools(value: dict[str, Any], request: ChatRequest) -> None:
    for number, tool in enumerate(value.get("tools") or ()):
        request.tools.append(_read_tool(tool, f"tools[{number}]"))
    for function in value.get("functions") or ():
        request.tools.append(_read_tool({"type": "function", "function": function}, "functions"))
    choice = value.get("tool_choice", value.get("function_call"))
    if choice is None:
        return
    if isinstance(choice, str) and choice in _MODES:
        request.tool_choice.mode = _MODES[choice]
        return
    named = choice.get("function", choice.get("custom", choice)) if isinstance(choice, dict) else {}
    if isinstance(named, dict) and set(named) <= {"name", "type"} and isinstance(named.get("name"), str):
        request.tool_choice.mode = pb.ToolChoice.MODE_NAMED
        request.tool_choice.name = named["name"]
    else:
        request.tool_choice.raw = jsontools.dumps(choice)


def _read_tool(value: object, where: str) -> Tool:
    kind = value.get("type", "function") if isinstance(value, dict) else ""
    body = value.get(kind) if isinstance(value, dict) else None
    if not isinstance(body, dict) or kind not in ("function", "custom") or not body.get("name"):
        raise invalid("a tool is neither a named function nor a named custom tool", where)
    tool = Tool(
        kind=pb.TOOL_KIND_CUSTOM if kind == "custom" else pb.TOOL_KIND_FUNCTION,
        name=body["name"],
        description=body.get("description") or "",
        strict=body.get("strict"),
    )
    if body.get("parameters") is not None:
        tool.parameters = jsontools.dumps(body["parameters"])
    for name, raw in parts.extras(body, ("name", "description", "parameters", "strict")).items():
        tool.extensions[f"{kind}.{name}"] = raw
    for name, raw in parts.extras(value, ("type", kind)).items():  # type: ignore[arg-type] # an object, seen above
        tool.extensions[name] = raw
    return tool


def _read_sampling(value: dict[str, Any], request: ChatRequest) -> None:
    given = {name: value[name] for name in _SAMPLING if value.get(name) is not None}
    if given or value.get("logit_bias"):
        request.sampling.CopyFrom(pb.Sampling(**given, logit_bias=value.get("logit_bias") or {}))


def _read_format(value: Any, request: ChatRequest) -> None:
    if value is None:
        return
    form = request.response_format
    kind, schema = value.get("type"), value.get("json_schema")
    if kind in _FORMATS and len(value) == 1:
        form.type = _FORMATS[kind]
    elif (
        kind == "json_schema"
        and isinstance(schema, dict)
        and not set(schema) - {"name", "description", "schema", "strict"}
    ):
        form.type = pb.ResponseFormat.TYPE_JSON_SCHEMA
        form.name = schema.get("name") or ""
        form.description = schema.get("description") or ""
        form.schema = jsontools.dumps(schema["schema"]) if schema.get("schema") is not None else b""
        if schema.get("strict") is not None:
            form.strict = schema["strict"]
    else:
        form.type = pb.ResponseFormat.TYPE_RAW
        form.raw = jsontools.dumps(value)


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


def write_request(
    request: ChatRequest, *, model: str, stream: bool, source: str, options: Options
) -> tuple[bytes, list[str]]:
    """See `dialect.Dialect.write_request`."""
    own = source in ("", CHAT)
    dropped: list[str] = []
    if not own:
        request, dropped = foreign.stripped(request, options.accepts)
    said = request.messages if _IMAGES in options.accepts else drawn.shown_by_users(request.messages, dropped)
    out: dict[str, Any] = {"model": model, "messages": _write_messages(said, options, dropped)}
    if request.tools:
        out["tools"] = [_write_tool(tool) for tool in request.tools]
    if request.HasField("tool_choice"):
        out["tool_choice"] = _write_choice(request)
    if request.HasField("parallel_tool_calls"):
        out["parallel_tool_calls"] = request.parallel_tool_calls
    if request.HasField("max_output_tokens"):
        out[options.max_tokens_member] = request.max_output_tokens
    if request.stop:
        out["stop"] = list(request.stop)
    if request.HasField("choices"):
        out["n"] = request.choices
    if request.HasField("response_format"):
        out["response_format"] = _write_format(request.response_format)
    if request.user:
        out["user"] = request.user
    if request.metadata:
        out["metadata"] = dict(request.metadata)
    _write_sampling(request.sampling, out, options, dropped)
    if not (own and "reasoning" in request.extensions):  # which holds the whole member
        _write_reasoning(request.reasoning, out, options, dropped)
    if stream:
        out["stream"] = True
        if options.stream_usage:
            out["stream_options"] = {"include_usage": True}
    if own:
        parts.put_extras(out, request.extensions)
    else:
        dropped += sorted(request.extensions)
    return jsontools.dumps(out), list(dict.fromkeys(dropped))


def _write_messages(messages: Iterable[Message], options: Options, dropped: list[str]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    late: list[dict[str, Any]] = []  # pictures in tool results, for vendors that take them from users only
    waiting: list[str] = []  # ids that were made for calls without one, for results that name none
    for message in messages:
        if late and message.role != pb.ROLE_TOOL:
            out.append({"role": "user", "content": late})
            late = []
        others = []
        for part in message.parts:
            if part.HasField("tool_result"):
                out.append(_write_tool_result(part.tool_result, options, late, waiting))
            else:
                others.append(part)
        if others or message.role != pb.ROLE_TOOL:
            out.append(_write_message(message, others, options, dropped, waiting))
    return [*out, {"role": "user", "content": late}] if late else out


def _write_tool_result(
    result: pb.ToolResult, options: Options, late: list[dict[str, Any]], waiting: list[str]
) -> dict[str, Any]:
    shown = [part for part in result.parts if options.tool_images or part.HasField("text")]
    if not options.tool_images:
        late += [parts.write_part(part) for part in result.parts if not part.HasField("text")]
    call_id = result.tool_call_id or (waiting.pop(0) if waiting else "")
    out: dict[str, Any] = {"role": "tool", "tool_call_id": call_id, "content": _write_content(shown)}
    return out | ({"name": result.name} if result.name else {})


def _write_message(
    message: Message, content: list[Part], options: Options, dropped: list[str], waiting: list[str]
) -> dict[str, Any]:
    role = _ROLE_NAMES.get(message.role) or ("developer" if options.developer_role else "system")
    out: dict[str, Any] = {"role": role}
    if message.name:
        out["name"] = message.name
    kinds = ("text", "file") if message.role == pb.ROLE_ASSISTANT else ("text", "image", "file")
    shown = [part for part in content if part.WhichOneof("part") in kinds or _is_sound(part)]
    out["content"] = _write_content(shown)
    if message.role == pb.ROLE_ASSISTANT:
        _write_assistant(content, out, options, dropped)
        _write_calls(content, out, waiting)
        if not shown:
            out["content"] = None if out.keys() & {"tool_calls", "refusal", "audio"} else ""
    parts.put_extras(out, message.extensions)
    return out


def _is_sound(part: Part) -> bool:
    return part.HasField("audio") and not part.audio.id


def _write_content(shown: list[Part]) -> Any:
    if not shown:
        return ""
    if len(shown) == 1 and shown[0].HasField("text") and not shown[0].extensions:
        return shown[0].text.text
    return [parts.write_part(part) for part in shown]


def _write_assistant(content: list[Part], out: dict[str, Any], options: Options, dropped: list[str]) -> None:
    reasoning = [part for part in content if part.HasField("reasoning")]
    details = [detail for part in reasoning if part.state.dialect == CHAT and (detail := parts.write_detail(part))]
    if details:
        out["reasoning_details"] = details
    text = "".join(part.reasoning.text for part in reasoning if not part.reasoning.redacted)
    if text and options.reasoning_member:
        out[options.reasoning_member] = text
    elif reasoning and not details:
        dropped.append("messages.reasoning")
    pictures = [part.image for part in content if part.HasField("image")]
    if pictures:
        out[_IMAGES] = [parts.write_image(picture, number) for number, picture in enumerate(pictures)]
    for part in content:
        if part.HasField("refusal"):
            out["refusal"] = part.refusal.text
        elif part.HasField("audio") and part.audio.id:
            out["audio"] = {"id": part.audio.id}


def _write_calls(content: list[Part], out: dict[str, Any], waiting: list[str]) -> None:
    """The calls of a message as vendors may see them: each with an id, none with another dialect's state."""
    calls = []
    for number, part in enumerate(part for part in content if part.HasField("tool_call")):
        call = parts.write_call(part)
        if part.HasField("state") and part.state.dialect != CHAT:
            del call["extra_content"]
        if not part.tool_call.id:
            call["id"] = made_call_id(part.tool_call.name, part.tool_call.arguments, number)
            waiting.append(call["id"])
        calls.append(call)
    if calls:
        out["tool_calls"] = calls


def _write_tool(tool: Tool) -> dict[str, Any]:
    kind = "custom" if tool.kind == pb.TOOL_KIND_CUSTOM else "function"
    body: dict[str, Any] = {"name": tool.name}
    if tool.description:
        body["description"] = tool.description
    if tool.parameters:
        body["parameters"] = jsontools.loads(tool.parameters)
    if tool.HasField("strict"):
        body["strict"] = tool.strict
    out: dict[str, Any] = {"type": kind, kind: body}
    for name, raw in tool.extensions.items():
        inner = name.removeprefix(f"{kind}.")
        (body if inner != name else out).setdefault(inner, jsontools.loads(raw))
    return out


def _write_choice(request: ChatRequest) -> Any:
    choice = request.tool_choice
    if choice.raw:
        return jsontools.loads(choice.raw)
    if choice.mode != pb.ToolChoice.MODE_NAMED:
        return _MODE_NAMES.get(choice.mode, "auto")
    custom = any(tool.name == choice.name and tool.kind == pb.TOOL_KIND_CUSTOM for tool in request.tools)
    kind = "custom" if custom else "function"
    return {"type": kind, kind: {"name": choice.name}}


def _write_format(form: pb.ResponseFormat) -> Any:
    if form.type == pb.ResponseFormat.TYPE_RAW:
        return jsontools.loads(form.raw)
    if form.type != pb.ResponseFormat.TYPE_JSON_SCHEMA:
        return {"type": _FORMAT_NAMES.get(form.type, "text")}
    schema: dict[str, Any] = {"name": form.name or "answer"}
    if form.description:
        schema["description"] = form.description
    if form.schema:
        schema["schema"] = jsontools.loads(form.schema)
    if form.HasField("strict"):
        schema["strict"] = form.strict
    return {"type": "json_schema", "json_schema": schema}


def _write_sampling(sampling: pb.Sampling, out: dict[str, Any], options: Options, dropped: list[str]) -> None:
    for name in _SAMPLING:
        if not sampling.HasField(name):
            continue
        if name in _STANDARD or name in options.accepts:
            out[name] = getattr(sampling, name)
        else:
            dropped.append(name)
    if sampling.logit_bias:
        out["logit_bias"] = dict(sampling.logit_bias)


def _write_reasoning(reasoning: pb.ReasoningOptions, out: dict[str, Any], options: Options, dropped: list[str]) -> None:
    given: dict[str, Any] = {
        name: getattr(reasoning, name) for name in ("max_tokens", "enabled") if reasoning.HasField(name)
    }
    if reasoning.summary:
        given["summary"] = reasoning.summary
    if given and "reasoning" in options.accepts:
        out["reasoning"] = given | ({"effort": reasoning.effort} if reasoning.effort else {})
        return
    dropped += [f"reasoning.{name}" for name in given]
    if reasoning.effort:
        out["reasoning_effort"] = reasoning.effort
