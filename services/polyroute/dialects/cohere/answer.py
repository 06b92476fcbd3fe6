"""`cohere.chat` answers: JSON into choices."""

from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatResponse, Message, Part, ToolCall
from polyroute.dialects import jsontools
from polyroute.dialects.asking import WRONG_TYPES, add_text, bad_answer, object_in, objects_in, text_of
from polyroute.dialects.cohere.common import THINKING, TOOL_PLAN, fault_in, finish_of, seal, usage_of
from polyroute.dialects.openai import parts
from polyroute.dialects.openai.common import made_call_id
from polyroute.dialects.openai.meter import object_of

_MEMBERS: Final = frozenset({"id", "message", "finish_reason", "usage", "logprobs"})
MESSAGE_MEMBERS: Final = frozenset({"role", "content", "tool_plan", "tool_calls"})
CALL_MEMBERS: Final = frozenset({"id", "type", "function"})


def read_answer(body: bytes) -> ChatResponse:
    """See `dialect.Outbound.read_answer`."""
    return read_value(object_of(body))


def read_value(value: dict[str, Any]) -> ChatResponse:
    """A whole answer out of decoded JSON.

    Raises:
        MeshError: the fault inside an error body, FAULT_BAD_ANSWER for anything else that is no answer.
    """
    message = value.get("message")
    if not isinstance(message, dict):
        raise fault_in(value) if says_error(value) else bad_answer("the provider's answer has no message")
    try:
        return _read(value, message)
    except WRONG_TYPES as error:
        raise bad_answer("a member of the provider's answer has a wrong type") from error


def says_error(value: dict[str, Any]) -> bool:
    """Whether an object is an error: `{message: "..."}`, or one with a member `error`."""
    return bool(value.get("error") or text_of(value.get("message")))


def _read(value: dict[str, Any], body: dict[str, Any]) -> ChatResponse:
    response = ChatResponse(id=text_of(value.get("id")))
    choice = response.choices.add(vendor_finish_reason=text_of(value.get("finish_reason")))
    choice.message.CopyFrom(_read_message(body, response.id))
    called = any(part.HasField("tool_call") for part in choice.message.parts)
    choice.finish_reason = finish_of(choice.vendor_finish_reason, tool_calls=called)
    choice.logprobs = logprobs_of(value.get("logprobs"))
    usage = usage_of(value.get("usage"))
    if usage:
        response.usage.CopyFrom(usage)
    for name, raw in parts.extras(value, _MEMBERS).items():
        response.extensions[name] = raw
    return response


def _read_message(value: dict[str, Any], answer_id: str) -> Message:
    message = Message(role=pb.ROLE_ASSISTANT)
    found, unknown = _read_content(value.get("content"))
    plan = text_of(value.get("tool_plan"))
    if plan:
        found.append(Part(reasoning=pb.ReasoningPart(text=plan), state=seal(TOOL_PLAN)))
    message.parts.extend(found)
    for number, call in enumerate(objects_in(value.get("tool_calls"))):
        message.parts.append(_read_call(call, number, answer_id))
    if unknown:
        message.extensions["content_parts"] = jsontools.dumps(unknown)
    for name, raw in parts.extras(value, MESSAGE_MEMBERS).items():
        if raw != b"[]":  # lists of nothing are how some versions say that there is none
            message.extensions[name] = raw
    return message


def _read_content(content: object) -> tuple[list[Part], list[Any]]:
    """The entries of a content, and those of no known type as they are."""
    found: list[Part] = []
    unknown: list[Any] = []
    if isinstance(content, str):
        add_text(found, content)
        return found, unknown
    for entry in content if isinstance(content, list) else ():
        text, thought = text_in(entry), thought_in(entry)
        if text is not None:
            add_text(found, text)
        elif thought is None:
            unknown.append(entry)
        elif thought:
            found.append(Part(reasoning=pb.ReasoningPart(text=thought), state=seal(THINKING)))
    return found, unknown


def text_in(entry: object) -> str | None:
    """The text of an entry of the content or of a piece of one; None when it is of another type."""
    return _words_in(object_in(entry), "text")


def thought_in(entry: object) -> str | None:
    """The same for reasoning."""
    return _words_in(object_in(entry), "thinking")


def _words_in(entry: dict[str, Any], kind: str) -> str | None:
    words = entry.get(kind)
    if isinstance(words, str):
        return words
    return "" if entry.get("type") == kind and words is None else None


def _read_call(value: dict[str, Any], number: int, answer_id: str) -> Part:
    function = object_in(value.get("function"))
    name = text_of(function.get("name"))
    part = Part(
        tool_call=ToolCall(
            id=text_of(value.get("id")) or made_call_id(answer_id, number, name),
            name=name,
            arguments=parts.arguments_text(function.get("arguments")),
            kind=pb.TOOL_KIND_FUNCTION,
        )
    )
    for member, raw in parts.extras(value, CALL_MEMBERS).items():
        part.extensions[member] = raw
    return part


def logprobs_of(value: object) -> bytes:
    """Log probabilities, the vendor's entries in a list `content`, so that those of a stream's pieces can be joined."""
    entries = objects_in(value)
    return jsontools.dumps({"content": entries}) if entries else b""
