"""`gemini.generate` answers for clients: choices into JSON."""

from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatResponse, Choice, Message, Part, VendorState
from polyroute.dialects import jsontools
from polyroute.dialects.asking import object_in, text_of
from polyroute.dialects.gemini.common import MESSAGE_MEMBERS, SIGNATURE, finish_word, signature_of, time_of, usage_json
from polyroute.dialects.gemini.parts import arguments_of, own_part
from polyroute.dialects.openai.parts import put_extras

# Sound of this API when nothing says otherwise.
AUDIO_TYPE: Final = "audio/L16;codec=pcm;rate=24000"
# Log probabilities of this API, not those of another in whose form nobody here expects them.
_LOGPROBS: Final = frozenset({"chosenCandidates", "topCandidates", "logProbabilitySum"})


def write_answer(response: ChatResponse, *, request_id: str, model: str) -> bytes:
    """See `dialect.Dialect.write_answer`."""
    out: dict[str, Any] = {}
    candidates = [_write_choice(choice) for choice in response.choices]
    if not (is_blocked(response) and all(choice.keys() <= _BARE for choice in candidates)):
        out["candidates"] = candidates
    if response.HasField("usage"):
        out["usageMetadata"] = usage_json(response.usage, response.extensions.get("usageMetadata", b""))
    out |= {"modelVersion": model, "responseId": request_id}
    if time_of(response.create_time):
        out["createTime"] = time_of(response.create_time)
    put_extras(out, response.extensions)
    return jsontools.dumps(out)


_BARE: Final = frozenset({"index", "finishReason"})


def is_blocked(response: ChatResponse) -> bool:
    """Whether the prompt was refused: then there are no candidates."""
    feedback = response.extensions.get("promptFeedback")
    return bool(feedback and object_in(jsontools.loads(feedback)).get("blockReason"))


def _write_choice(choice: Choice) -> dict[str, Any]:
    content = _write_content(choice.message)
    out: dict[str, Any] = {}
    if content:
        out["content"] = {"parts": [], "role": "model"} | content
    out["finishReason"] = finish_word(choice.finish_reason, choice.vendor_finish_reason)
    out["index"] = choice.index
    probabilities = own_logprobs(choice.logprobs)
    if probabilities:
        out["logprobsResult"] = probabilities
    put_extras(out, choice.extensions)
    return out


def own_logprobs(raw: bytes) -> dict[str, Any]:
    """Log probabilities in the form of this API; empty for those of another."""
    value = object_in(jsontools.loads(raw)) if raw else {}
    return value if value.keys() & _LOGPROBS else {}


def _write_content(message: Message) -> dict[str, Any]:
    kind = text_of(jsontools.loads(message.extensions.get("audioMimeType", b'""')))
    parts = [value for part in message.parts if (value := write_part(part, kind)) is not None]
    out: dict[str, Any] = {"parts": parts} if parts else {}
    put_extras(out, {name: raw for name, raw in message.extensions.items() if name not in MESSAGE_MEMBERS})
    return out


def write_part(part: Part, audio_type: str = "") -> dict[str, Any] | None:
    """One part of an answer; None for one that says nothing."""
    out: dict[str, Any] | None = None
    match part.WhichOneof("part"):
        case "text":
            out = {"text": part.text.text}
        case "refusal":
            out = {"text": part.refusal.text}
        case "reasoning" if (whole := own_part(part)) is not None:
            return whole
        case "reasoning":
            out = {"text": part.reasoning.text, "thought": True}
        case "tool_call":
            out = {"functionCall": call_json(part.tool_call)}
            put_extras(out, part.extensions)
        case "image":
            out = _media(part.image.media, "image/png")
        case "audio":
            out = _media(part.audio.media, audio_type or AUDIO_TYPE) or {"text": part.audio.transcript}
    if out is None or (out.get("text") == "" and not part.HasField("state")):
        return None
    return signed(out, part.state if part.HasField("state") else None)


def signed(value: dict[str, Any], state: VendorState | None) -> dict[str, Any]:
    """A part with its state as a signature, be it another dialect's: clients return what they got."""
    if state is not None:
        value[SIGNATURE] = signature_of(state)
    return value


def call_json(call: pb.ToolCall) -> dict[str, Any]:
    """`functionCall`: clients expect an object as arguments and match results by the id."""
    out: dict[str, Any] = {"id": call.id} if call.id else {}
    return out | {"name": call.name, "args": arguments_of(call.arguments)}


def _media(media: pb.Media, default_type: str) -> dict[str, Any] | None:
    if media.WhichOneof("source") == "data":
        data = jsontools.packed(media.data)
        return {"inlineData": {"mimeType": media.media_type or default_type, "data": data}}
    return {"fileData": {"mimeType": media.media_type, "fileUri": media.url}} if media.url else None
