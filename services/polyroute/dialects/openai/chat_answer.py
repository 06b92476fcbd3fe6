"""`openai.chat` answers: JSON into choices, and choices into JSON."""

from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatResponse, Choice, Message, Part
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import jsontools
from polyroute.dialects.openai import parts
from polyroute.dialects.openai.common import (
    create_time,
    finish_of,
    finish_word,
    is_finish,
    made_call_id,
    usage_from,
    usage_json,
)
from polyroute.dialects.openai.meter import check_answer, object_of
from polyroute.dialects.openai.parts import read_reasoning
from polyroute.mesh.errors import MeshError

ANSWER_MEMBERS: Final = frozenset({"id", "object", "created", "model", "choices", "usage", "error"})
MESSAGE_MEMBERS: Final = frozenset(
    {
        "role",
        "content",
        "refusal",
        "tool_calls",
        "function_call",
        "audio",
        "images",
        "reasoning_content",
        "reasoning",
        "reasoning_details",
    }
)
_CHOICE_MEMBERS: Final = frozenset({"index", "message", "delta", "text", "finish_reason", "logprobs"})


def bad_answer(message: str) -> MeshError:
    """A vendor's answer that cannot be read."""
    return MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, message)


def read_answer(body: bytes) -> ChatResponse:
    """See `dialect.Dialect.read_answer`."""
    value = object_of(body)
    check_answer(value)
    try:
        return _read(value)
    except (TypeError, ValueError, AttributeError) as error:  # a member of a type that the contract does not take
        raise bad_answer("a member of the provider's answer has a wrong type") from error


def _read(value: dict[str, Any]) -> ChatResponse:
    response = ChatResponse(
        id=value.get("id") or "",
        model=value.get("model") or "",
        create_time=seconds_of(value.get("created")),
    )
    for number, choice in enumerate(value["choices"]):
        if isinstance(choice, dict):
            _read_choice(choice, number, response)
    usage = usage_from(value.get("usage"))
    if usage:
        response.usage.CopyFrom(usage)
    for name, raw in parts.extras(value, ANSWER_MEMBERS).items():
        response.extensions[name] = raw
    return response


def seconds_of(created: object) -> int:
    """`created` as seconds; some vendors write fractions, or text."""
    if isinstance(created, str) and created.isdigit():
        created = int(created)
    return int(created) if isinstance(created, int | float) and 0 <= created < 1 << 53 else 0


def _read_choice(value: dict[str, Any], number: int, response: ChatResponse) -> None:
    """Adds a choice; written where it stays, for a message that is put into another is copied."""
    word = value.get("finish_reason")
    index = value.get("index")
    choice = response.choices.add(
        index=index if isinstance(index, int) else number,
        vendor_finish_reason=word if is_finish(word) else "",
    )
    _read_message(value.get("message") or value.get("delta") or {}, choice.message, response, choice.index)
    if not choice.message.parts and isinstance(value.get("text"), str):
        choice.message.parts.append(Part(text=pb.TextPart(text=value["text"])))
    called = any(part.HasField("tool_call") for part in choice.message.parts)
    choice.finish_reason = finish_of(choice.vendor_finish_reason, tool_calls=called)
    if says_something(value.get("logprobs")):
        choice.logprobs = jsontools.dumps(value["logprobs"])
    for name, raw in parts.extras(value, _CHOICE_MEMBERS).items():
        choice.extensions[name] = raw


def says_something(logprobs: object) -> bool:
    """Whether `logprobs` holds any; some vendors send its members, all null."""
    return any(item is not None for item in logprobs.values()) if isinstance(logprobs, dict) else bool(logprobs)


def _read_message(value: dict[str, Any], message: Message, response: ChatResponse, choice: int) -> None:
    message.role = pb.ROLE_ASSISTANT
    message.parts.extend(read_reasoning(value))
    content = value.get("content")
    if isinstance(content, str) and content:
        message.parts.add().text.text = content
    elif content:
        known, unknown = read_content(content)
        message.parts.extend(known)
        if unknown:
            message.extensions["content_parts"] = jsontools.dumps(unknown)
    if value.get("refusal"):
        message.parts.append(Part(refusal=pb.RefusalPart(text=value["refusal"])))
    if isinstance(value.get("audio"), dict) and any(value["audio"].values()):
        message.parts.append(Part(audio=_read_audio(value["audio"])))
    message.parts.extend(parts.pictures_in(value.get("images"), message.extensions))
    calls = [call for call in value.get("tool_calls") or () if isinstance(call, dict)]
    legacy = value.get("function_call")
    if isinstance(legacy, dict) and legacy.get("name") and not calls:
        calls = [{"function": legacy}]
    for number, call in enumerate(calls):
        part = parts.read_call(call)
        part.tool_call.id = part.tool_call.id or made_call_id(
            response.id, response.create_time, choice, number, part.tool_call.name
        )
        message.parts.append(part)
    for name, raw in parts.extras(value, MESSAGE_MEMBERS).items():
        message.extensions[name] = raw


def read_content(content: object) -> tuple[list[Part], list[Any]]:
    """The parts of a `content` in any form, and entries of no known type (references, widgets) as they are."""
    if not content:
        return [], []
    if not isinstance(content, list):
        # an object instead of its text is how some vendors answer a JSON schema
        text = content if isinstance(content, str) else jsontools.dumps(content).decode()
        return [Part(text=pb.TextPart(text=text))], []
    known: list[Part] = []
    unknown: list[Any] = []
    for number, item in enumerate(content):
        try:
            known += parts.read_part(item, f"content[{number}]")
        except MeshError:
            unknown.append(item)
    return known, unknown


def _read_audio(value: dict[str, Any]) -> pb.AudioPart:
    audio = pb.AudioPart(id=value.get("id") or "", transcript=value.get("transcript") or "")
    data = audio_bytes(value.get("data"))
    if data:
        audio.media.data = data
    return audio


def audio_bytes(data: object) -> bytes:
    """Sound out of its base64 form."""
    try:
        return jsontools.unpacked(data) if isinstance(data, str) else b""
    except ValueError:
        raise bad_answer("the sound in the provider's answer is not base64") from None


def write_answer(response: ChatResponse, *, request_id: str, model: str) -> bytes:
    """See `dialect.Dialect.write_answer`."""
    out: dict[str, Any] = {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": create_time(response.create_time, request_id),
        "model": model,
        "choices": [_write_choice(choice) for choice in response.choices],
    }
    if response.HasField("usage"):
        out["usage"] = usage_json(response.usage)
    parts.put_extras(out, response.extensions)
    return jsontools.dumps(out)


def _write_choice(choice: Choice) -> dict[str, Any]:
    out: dict[str, Any] = {
        "index": choice.index,
        "message": _write_message(choice.message),
        "logprobs": jsontools.loads(choice.logprobs) if choice.logprobs else None,
        "finish_reason": finish_word(choice.finish_reason),
    }
    parts.put_extras(out, choice.extensions)
    return out


def _write_message(message: Message) -> dict[str, Any]:
    if len(message.parts) == 1 and message.parts[0].HasField("text"):  # which most are
        out: dict[str, Any] = {"role": "assistant", "content": message.parts[0].text.text, "refusal": None}
        parts.put_extras(out, message.extensions)
        return out
    texts = [part.text.text for part in message.parts if part.HasField("text")]
    refusals = [part.refusal.text for part in message.parts if part.HasField("refusal")]
    reasoning = [part for part in message.parts if part.HasField("reasoning")]
    calls = [parts.write_call(part) for part in message.parts if part.HasField("tool_call")]
    out = {
        "role": "assistant",
        "content": "".join(texts) if texts or not (calls or refusals) else None,
        "refusal": "".join(refusals) or None,
    }
    thought = "".join(part.reasoning.text for part in reasoning)
    if thought:
        out["reasoning_content"] = thought
    details = [detail for part in reasoning if (detail := parts.write_detail(part))]
    if details:
        out["reasoning_details"] = details
    if calls:
        out["tool_calls"] = calls
    pictures = [part for part in message.parts if part.HasField("image")]
    if pictures:
        out["images"] = [
            parts.write_image(part.image, number, part.state if part.HasField("state") else None)
            for number, part in enumerate(pictures)
        ]
    for part in message.parts:
        if part.HasField("audio"):
            out["audio"] = _write_audio(part.audio)
    parts.put_extras(out, message.extensions)
    return out


def _write_audio(audio: pb.AudioPart) -> dict[str, Any]:
    data = jsontools.packed(audio.media.data) if audio.HasField("media") else ""
    return {"id": audio.id, "data": data, "transcript": audio.transcript}
