"""What routing needs of a request, read at the door before anything else knows the body.

This is hot for the long prompts of agents, so the body is decoded once into structs. Those of the first kind know every
member that requests usually have and no other, which bounds the nesting by itself: only what may hold any JSON, such as
the arguments of calls, is measured. A conversation that they do not fit is read again, and measured whole.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Capability, RequestFacts
from polyroute.dialects import jsontools
from polyroute.dialects.jsontools import decoded_member, invalid
from polyroute.dialects.openai.facts import (
    BYTES_PER_TOKEN,
    FILE_BYTES_PER_TOKEN,
    MAX_MESSAGES,
    MAX_MODEL_BYTES,
    MAX_STOPS,
    TOKENS_PER_MESSAGE,
    check_outer,
    limit_of,
    text_bytes,
)

# What a picture costs at most in the common resolution (https://platform.claude.com/docs/en/build-with-claude/vision);
# its size is not looked at here: the figure sizes a hold and a filter, never a bill.
TOKENS_PER_IMAGE: Final = 1568

_ABSENT: Final = msgspec.Raw()
_ROLES: Final = frozenset({"user", "assistant", "system"})


class _Kind(msgspec.Struct, gc=False):
    type: str | None = None


class _OutputConfig(msgspec.Struct, gc=False):
    format: _Kind | None = None


class _Source(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    type: str | None = None
    media_type: str | None = None
    data: msgspec.Raw = _ABSENT
    url: str | None = None
    file_id: str | None = None


class _Block(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    source: _Source | None = None
    title: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = _ABSENT
    tool_use_id: str | None = None
    content: msgspec.Raw = _ABSENT
    is_error: bool | None = None
    cache_control: dict[str, str] | None = None
    caller: dict[str, str] | None = None
    citations: dict[str, bool] | None = None


class _Message(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    role: str
    content: str | list[_Block]


class _AnySource(msgspec.Struct, gc=False):
    type: str | None = None
    data: msgspec.Raw = _ABSENT


class _AnyBlock(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    source: _AnySource | None = None
    input: msgspec.Raw = _ABSENT
    content: msgspec.Raw = _ABSENT


class _AnyMessage(msgspec.Struct, gc=False):
    role: str
    content: str | list[_AnyBlock]


class Request(msgspec.Struct, gc=False):
    """The members of a request that routing knows."""

    messages: msgspec.Raw = _ABSENT
    model: str | None = None
    system: msgspec.Raw = _ABSENT
    max_tokens: int | None = None
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    tools: list[msgspec.Raw] | None = None
    thinking: _Kind | None = None
    output_config: _OutputConfig | None = None
    output_format: _Kind | None = None


_decode: Final = msgspec.json.Decoder(Request).decode
_decode_messages: Final = msgspec.json.Decoder(list[_Message]).decode
_decode_any_messages: Final = msgspec.json.Decoder(list[_AnyMessage]).decode
_decode_any_blocks: Final = msgspec.json.Decoder(list[_AnyBlock]).decode


def read_facts(
    body: bytes, *, default_model: str = "", operation: pb.Operation.ValueType = pb.OPERATION_CHAT
) -> RequestFacts:
    """The facts of a request; see `dialect.Dialect.read_facts`."""
    needs: set[Capability.ValueType] = set()
    try:
        request = _decode(body)
        raw = bytes(request.messages)
        check_outer(jsontools.without_value(body, b'"messages"', raw))
        tokens = _messages(raw, needs)
    except jsontools.BAD_JSON as error:
        jsontools.refuse(error)
    tokens += len(request.system) // BYTES_PER_TOKEN
    tokens += sum(len(tool) for tool in request.tools or ()) // BYTES_PER_TOKEN
    _note_needs(request, needs)
    return _facts(request, operation, tokens, needs, default_model)


def _facts(
    request: Request,
    operation: pb.Operation.ValueType,
    tokens: int,
    needs: set[Capability.ValueType],
    default_model: str,
) -> RequestFacts:
    model = request.model or default_model
    if not model:
        raise invalid("the request names no model", "model")
    if len(model.encode()) > MAX_MODEL_BYTES:
        raise invalid(f"the model's name is longer than {MAX_MODEL_BYTES} bytes", "model")
    if request.stop_sequences and len(request.stop_sequences) > MAX_STOPS:
        raise invalid(f"more than {MAX_STOPS} stop texts", "stop_sequences")
    return RequestFacts(
        operation=operation,
        model=model,
        stream=bool(request.stream),
        stream_usage=bool(request.stream),  # which every stream of this format tells
        input_tokens_estimate=tokens,
        max_output_tokens=limit_of("max_tokens", request.max_tokens),
        needs=sorted(needs),
    )


def _messages(raw: bytes, needs: set[Capability.ValueType]) -> int:
    """Tokens of a conversation, about; adds what it needs."""
    if not raw or raw == b"null":
        raise invalid("the request has no messages", "messages")
    messages = _conversation(raw)
    if not messages:
        raise invalid("the request has no messages", "messages")
    if len(messages) > MAX_MESSAGES:
        raise invalid(f"more than {MAX_MESSAGES} messages", "messages")
    size = tokens = 0
    for number, message in enumerate(messages):
        if message.role not in _ROLES:
            raise invalid("a message has an unknown role", f"messages[{number}].role")
        content = message.content
        if isinstance(content, str):
            size += text_bytes(content)
        else:
            for block in content:
                tokens += _block(block, needs)
    return size // BYTES_PER_TOKEN + tokens + TOKENS_PER_MESSAGE * len(messages)


def _conversation(raw: bytes) -> Sequence[_Message | _AnyMessage]:
    try:
        return _decode_messages(raw)
    except msgspec.ValidationError:
        return decoded_member(_decode_any_messages, raw, "messages")


def _block(block: _Block | _AnyBlock, needs: set[Capability.ValueType]) -> int:
    """Tokens of a block, about; measures what may hold any JSON."""
    kind = block.type
    if kind == "text":
        return text_bytes(block.text or "") // BYTES_PER_TOKEN
    if kind in ("image", "document"):
        return _media(block.source or _AnySource(), needs, picture=kind == "image")
    given, content = bytes(block.input), bytes(block.content)
    for raw in (given, content):
        if raw:
            jsontools.check_value(raw)
    if kind == "tool_result" and content.startswith(b"["):
        return sum(_block(inner, needs) for inner in _decode_any_blocks(content))
    return (text_bytes(block.thinking or "") + len(given) + len(content)) // BYTES_PER_TOKEN


def _media(source: _Source | _AnySource, needs: set[Capability.ValueType], *, picture: bool) -> int:
    """Tokens of a picture or a document, about."""
    data = bytes(source.data)
    if data.startswith(b'"') and not data.isascii():
        data.decode()
    elif not data.startswith(b'"') and data:
        jsontools.check_value(data)
    needs.add(pb.CAPABILITY_VISION if picture else pb.CAPABILITY_FILES)
    if picture:
        return TOKENS_PER_IMAGE
    return len(data) // (BYTES_PER_TOKEN if source.type == "text" else FILE_BYTES_PER_TOKEN)


def _note_needs(request: Request, needs: set[Capability.ValueType]) -> None:
    if request.tools:
        needs.add(pb.CAPABILITY_TOOLS)
    if request.thinking and request.thinking.type in ("enabled", "adaptive"):
        needs.add(pb.CAPABILITY_REASONING)
    form: Any = request.output_config.format if request.output_config else None
    if (form or request.output_format) is not None:
        needs.add(pb.CAPABILITY_JSON_SCHEMA)
