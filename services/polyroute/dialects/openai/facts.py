"""What routing needs of a request, read at the door before anything else knows the body.

This is the hottest code of the edge for long prompts: the body is decoded once into structs that name only what is
needed. The conversation itself is cut out first, so that searches for doubled members run over the short rest.
"""

from typing import Any, Final

import msgspec

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Capability, RequestFacts
from polyroute.dialects import jsontools
from polyroute.dialects.jsontools import decoded_member, invalid

MAX_MODEL_BYTES: Final = 256
MAX_TOKENS: Final = 100_000_000
MAX_CHOICES: Final = 128
MAX_STOPS: Final = 64
MAX_MESSAGES: Final = 100_000

# The estimate of a prompt: about four bytes of text to a token (fewer characters where one takes several bytes). A
# picture costs what vendors charge for a small one; sound ten tokens a second of 16-bit 24 kHz PCM; a document about
# 1,500 a page. All are rough on purpose: they size a hold and a filter, never a bill.
BYTES_PER_TOKEN: Final = 4
TOKENS_PER_MESSAGE: Final = 4
TOKENS_PER_IMAGE: Final = 85
AUDIO_BYTES_PER_TOKEN: Final = 6400
FILE_BYTES_PER_TOKEN: Final = 60

_ABSENT: Final = msgspec.Raw()
_VISION: Final = frozenset({"image_url", "input_image", "image", "video_url"})
_AUDIO: Final = frozenset({"input_audio", "audio"})
_FILES: Final = frozenset({"file", "input_file", "file_url", "document_url"})


class _StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class _ResponseFormat(msgspec.Struct, gc=False):
    type: str = ""


class _Reasoning(msgspec.Struct, gc=False):
    effort: str | None = None
    enabled: bool | None = None


class Common(msgspec.Struct, gc=False):
    """The members of a request that every operation knows."""

    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None


class _Chat(Common, gc=False):
    messages: msgspec.Raw = _ABSENT
    max_completion_tokens: int | None = None
    tools: list[msgspec.Raw] | None = None
    functions: list[msgspec.Raw] | None = None
    response_format: _ResponseFormat | None = None
    modalities: list[str] | None = None
    logprobs: bool | None = None
    reasoning_effort: str | None = None
    reasoning: _Reasoning | None = None


# Of a message, twice: with every member that requests usually have and no other, which bounds the nesting by itself;
# and tolerant of all others, whose nesting must then be measured.
class _Image(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    url: msgspec.Raw
    detail: str | None = None


class _Audio(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    data: msgspec.Raw
    format: str | None = None


class _File(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    file_data: msgspec.Raw = _ABSENT
    filename: str | None = None
    file_id: str | None = None


class _Part(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    type: str = ""
    text: str | None = None
    image_url: _Image | str | None = None
    input_audio: _Audio | None = None
    file: _File | None = None
    refusal: str | None = None
    cache_control: dict[str, str] | None = None


class _Function(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    name: str = ""
    arguments: str = ""


class _Call(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    id: str = ""
    type: str = ""
    function: _Function | None = None
    index: int | None = None


class _Message(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    role: str
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _AnyPart(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    image_url: msgspec.Raw = _ABSENT
    input_audio: msgspec.Raw = _ABSENT
    file: msgspec.Raw = _ABSENT


class _AnyMessage(msgspec.Struct, gc=False):
    role: str
    content: str | list[_AnyPart] | None = None
    tool_calls: msgspec.Raw = _ABSENT
    reasoning_content: msgspec.Raw = _ABSENT
    reasoning: msgspec.Raw = _ABSENT


_decode_chat: Final = msgspec.json.Decoder(_Chat).decode
_decode_messages: Final = msgspec.json.Decoder(list[_Message]).decode
_decode_any_messages: Final = msgspec.json.Decoder(list[_AnyMessage]).decode


def read_chat_facts(body: bytes, *, default_model: str = "") -> RequestFacts:
    """The facts of an `openai.chat` request; see `dialect.Dialect.read_facts`."""
    try:
        chat = _decode_chat(body)
        raw = bytes(chat.messages)
        outer = jsontools.without_value(body, b'"messages"', raw)
        check_outer(outer)
        needs: set[Capability.ValueType] = set()
        tokens = _messages(raw, needs)
    except jsontools.BAD_JSON as error:
        jsontools.refuse(error)
    _chat_needs(chat, needs)
    for schema in chat.tools or chat.functions or ():
        tokens += len(schema) // BYTES_PER_TOKEN
    most = limit_of("max_completion_tokens", chat.max_completion_tokens)
    return facts_of(
        chat, pb.OPERATION_CHAT, tokens, needs, default_model, most if most is not None else chat.max_tokens
    )


def check_outer(outer: bytes) -> None:
    """Checks a body once its long value is out: UTF-8 everywhere, no doubled members, no deep nesting."""
    if not outer.isascii():
        outer.decode()
    jsontools.check_once(outer)
    jsontools.check_depth(outer)


def facts_of(
    common: Common,
    operation: pb.Operation.ValueType,
    tokens: int,
    needs: set[Capability.ValueType],
    default_model: str,
    most: int | None,
) -> RequestFacts:
    """The facts of a request of any operation, its common members checked."""
    model = common.model or default_model
    if not model:
        raise invalid("the request names no model", "model")
    if len(model.encode()) > MAX_MODEL_BYTES:
        raise invalid(f"the model's name is longer than {MAX_MODEL_BYTES} bytes", "model")
    limit_of("max_tokens", common.max_tokens)
    if common.n is not None and not 1 <= common.n <= MAX_CHOICES:
        raise invalid(f"n is not between 1 and {MAX_CHOICES}", "n")
    if isinstance(common.stop, list) and len(common.stop) > MAX_STOPS:
        raise invalid(f"more than {MAX_STOPS} stop texts", "stop")
    facts = RequestFacts(
        operation=operation,
        model=model,
        stream=bool(common.stream),
        input_tokens_estimate=tokens,
        max_output_tokens=most,
    )
    if common.stream_options and common.stream_options.include_usage:
        facts.stream_usage = True
    if needs:
        facts.needs.extend(sorted(needs))
    if common.n:
        facts.choices = common.n
    return facts


def limit_of(name: str, value: int | None) -> int | None:
    """A bound on tokens, if it is a sane one."""
    if value is not None and not 0 <= value <= MAX_TOKENS:
        raise invalid(f"{name} is not between 0 and {MAX_TOKENS}", name)
    return value


def text_bytes(text: str) -> int:
    """Bytes of a text in UTF-8, without making them where that is known."""
    return len(text) if text.isascii() else len(text.encode())


def _messages(raw: bytes, needs: set[Capability.ValueType]) -> int:
    """Tokens of a conversation, about; adds what it needs."""
    if not raw or raw == b"null":
        raise invalid("the request has no messages", "messages")
    messages: list[Any]
    try:
        messages = _decode_messages(raw)
    except msgspec.ValidationError:
        messages = decoded_member(_decode_any_messages, raw, "messages")
    if not messages:
        raise invalid("the request has no messages", "messages")
    if len(messages) > MAX_MESSAGES:
        raise invalid(f"more than {MAX_MESSAGES} messages", "messages")
    size = media = 0
    for message in messages:
        content = message.content
        if isinstance(content, str):
            size += len(content) if content.isascii() else text_bytes(content)
        elif content is not None:
            for part in content:
                if part.text:
                    size += text_bytes(part.text)
                if part.type != "text":
                    media += _media_tokens(part, needs)
        if message.role == "assistant" and (message.tool_calls or message.reasoning_content or message.reasoning):
            size += _said(message)
    return size // BYTES_PER_TOKEN + media + TOKENS_PER_MESSAGE * len(messages)


def _said(message: _Message | _AnyMessage) -> int:
    """Bytes of what an assistant message says beside its content."""
    if isinstance(message, _AnyMessage):
        return len(message.tool_calls) + len(message.reasoning_content) + len(message.reasoning)
    size = text_bytes(message.reasoning_content or message.reasoning or "")
    for call in message.tool_calls or ():
        if call.function:
            size += text_bytes(call.function.arguments) + len(call.function.name)
    return size


def _media_tokens(part: _Part | _AnyPart, needs: set[Capability.ValueType]) -> int:
    kind = part.type
    size = _media_bytes(part) if isinstance(part, _Part) else max(len(part.input_audio), len(part.file))
    if kind in _VISION:
        needs.add(pb.CAPABILITY_VISION)
        return TOKENS_PER_IMAGE
    if kind in _AUDIO:
        needs.add(pb.CAPABILITY_AUDIO_INPUT)
        return size // AUDIO_BYTES_PER_TOKEN + 1
    if kind in _FILES:
        needs.add(pb.CAPABILITY_FILES)
        return size // FILE_BYTES_PER_TOKEN + 1
    return 0


def _media_bytes(part: _Part) -> int:
    """Bytes of the media of a part; a text, or what hides in its place must be measured too."""
    raw = _ABSENT
    if isinstance(part.image_url, _Image):
        raw = part.image_url.url
    elif part.input_audio:
        raw = part.input_audio.data
    elif part.file:
        raw = part.file.file_data
    value = bytes(raw)
    if not value.isascii():
        value.decode()
    if not value.startswith(b'"'):
        jsontools.check_depth(value)
    return len(value)


def _chat_needs(chat: _Chat, needs: set[Capability.ValueType]) -> None:
    if chat.tools or chat.functions:
        needs.add(pb.CAPABILITY_TOOLS)
    if chat.response_format:
        if chat.response_format.type == "json_object":
            needs.add(pb.CAPABILITY_JSON_OBJECT)
        elif chat.response_format.type == "json_schema":
            needs.add(pb.CAPABILITY_JSON_SCHEMA)
    if chat.modalities and "audio" in chat.modalities:
        needs.add(pb.CAPABILITY_AUDIO_OUTPUT)
    if chat.logprobs:
        needs.add(pb.CAPABILITY_LOGPROBS)
    wanted = chat.reasoning_effort or (chat.reasoning.effort if chat.reasoning else None)
    if (wanted and wanted != "none") or (chat.reasoning and chat.reasoning.enabled):
        needs.add(pb.CAPABILITY_REASONING)
