"""`openai.chat` requests to vendors: a conversation into JSON; `tools` writes what may be called."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Message, Part
from polyroute.dialects import drawn, foreign, jsontools
from polyroute.dialects.openai import parts, tools
from polyroute.dialects.openai.common import CHAT, SAMPLING, made_call_id

_ROLE_NAMES: Final = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
    pb.ROLE_TOOL: "tool",
}
_IMAGES: Final = "images"
_STANDARD: Final = frozenset(SAMPLING) - {"top_k"}


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
        out["tools"] = [tools.write_tool(tool) for tool in request.tools]
    if request.HasField("tool_choice"):
        out["tool_choice"] = tools.write_choice(request)
    if request.HasField("parallel_tool_calls"):
        out["parallel_tool_calls"] = request.parallel_tool_calls
    if request.HasField("max_output_tokens"):
        out[options.max_tokens_member] = request.max_output_tokens
    if request.stop:
        out["stop"] = list(request.stop)
    if request.HasField("choices"):
        out["n"] = request.choices
    if request.HasField("response_format"):
        out["response_format"] = tools.write_format(request.response_format)
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


def _write_sampling(sampling: pb.Sampling, out: dict[str, Any], options: Options, dropped: list[str]) -> None:
    for name in SAMPLING:
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
