"""What routing needs of an `openai.responses` request, read at the door before anything else knows the body.

As for its elder sibling: the input is cut out first, and decoded once into structs that name what requests usually
have and no more, which bounds its nesting by itself; whatever they do not fit is read again by tolerant ones.
"""

from typing import Any, Final

import msgspec

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Capability, RequestFacts
from polyroute.dialects import jsontools
from polyroute.dialects.jsontools import decoded_member, invalid
from polyroute.dialects.openai.facts import (
    AUDIO_BYTES_PER_TOKEN,
    BYTES_PER_TOKEN,
    FILE_BYTES_PER_TOKEN,
    MAX_MESSAGES,
    TOKENS_PER_IMAGE,
    TOKENS_PER_MESSAGE,
    Common,
    check_outer,
    facts_of,
    limit_of,
    text_bytes,
)
from polyroute.dialects.responses.common import LOGPROBS

_ABSENT: Final = msgspec.Raw()
_SIGNS: Final = (b'"encrypted_content"', b'"file_id"', b'"item_reference"')  # without any of them no item is bound


class _Format(msgspec.Struct, gc=False):
    type: str = ""


class _Text(msgspec.Struct, gc=False):
    format: _Format | None = None


class _Reasoning(msgspec.Struct, gc=False):
    effort: str | None = None


class _Request(Common, gc=False):
    input: msgspec.Raw = _ABSENT
    instructions: str | None = None
    max_output_tokens: int | None = None
    tools: list[msgspec.Raw] | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None
    include: list[str] | None = None
    previous_response_id: str | None = None
    conversation: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT
    background: msgspec.Raw = _ABSENT
    store: msgspec.Raw = _ABSENT


class _Part(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    type: str = ""
    text: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None
    refusal: str | None = None


class _Item(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    type: str | None = None
    role: str | None = None
    content: str | list[_Part] | None = None
    id: str | None = None
    status: str | None = None
    phase: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    output: str | list[_Part] | None = None
    summary: list[_Part] | None = None
    encrypted_content: str | None = None


class _AnyPart(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    file_data: str | None = None
    file_id: msgspec.Raw = _ABSENT
    input_audio: msgspec.Raw = _ABSENT
    refusal: str | None = None


class _AnyItem(msgspec.Struct, gc=False):
    type: str | None = None
    encrypted_content: msgspec.Raw = _ABSENT
    content: str | list[_AnyPart] | None = None
    arguments: msgspec.Raw = _ABSENT
    input: msgspec.Raw = _ABSENT
    output: msgspec.Raw = _ABSENT
    summary: msgspec.Raw = _ABSENT


_decode: Final = msgspec.json.Decoder(_Request).decode
_decode_items: Final = msgspec.json.Decoder(str | list[_Item]).decode
_decode_any_items: Final = msgspec.json.Decoder(list[_AnyItem]).decode
_decode_parts: Final = msgspec.json.Decoder(list[_AnyPart]).decode


def read_facts(body: bytes, *, default_model: str = "") -> RequestFacts:
    """The facts of a request; see `dialect.Dialect.read_facts`. Usage is part of every stream of this format."""
    try:
        request = _decode(body)
        raw = bytes(request.input)
        check_outer(jsontools.without_value(body, b'"input"', raw))
        needs: set[Capability.ValueType] = set()
        stored = _is_stored(request)
        tokens, bound = _input(raw, needs, stored=stored)
    except jsontools.BAD_JSON as error:
        jsontools.refuse(error)
    _needs(request, needs)
    tokens += text_bytes(request.instructions or "") // BYTES_PER_TOKEN
    for schema in request.tools or ():
        tokens += len(schema) // BYTES_PER_TOKEN
    most = limit_of("max_output_tokens", request.max_output_tokens)
    facts = facts_of(request, pb.OPERATION_CHAT, tokens, needs, default_model, most)
    facts.stream_usage = facts.stream
    if stored or bound:
        facts.bound = True
    if b"true" in (bytes(request.store), bytes(request.background)):
        facts.kept = True
    return facts


def _is_stored(request: _Request) -> bool:
    kept = any(bytes(raw) not in (b"", b"null") for raw in (request.conversation, request.prompt))
    return kept or bool(request.previous_response_id)


def _input(raw: bytes, needs: set[Capability.ValueType], *, stored: bool) -> tuple[int, bool]:
    """Tokens of the input, about, and whether one account alone can read it; adds what it needs."""
    if not raw or raw == b"null":
        if stored:
            return 0, False
        raise invalid("the request has no input", "input")
    items: Any
    try:
        items = _decode_items(raw)
    except msgspec.ValidationError:
        items = decoded_member(_decode_any_items, raw, "input")
    if not items and not stored:
        raise invalid("the request has no input", "input")
    if isinstance(items, str):
        return text_bytes(items) // BYTES_PER_TOKEN + TOKENS_PER_MESSAGE, False
    if len(items) > MAX_MESSAGES:
        raise invalid(f"more than {MAX_MESSAGES} items", "input")
    size = media = 0
    for item in items:
        chars, tokens = _said(item.content, needs)
        size += chars
        media += tokens
        if isinstance(item, _Item):
            chars, tokens = _rest(item, needs)
        else:
            chars, tokens = _any_rest(item, needs)
        size += chars
        media += tokens
    bound = any(sign in raw for sign in _SIGNS) and any(map(_is_bound, items))
    return size // BYTES_PER_TOKEN + media + TOKENS_PER_MESSAGE * len(items), bound


def _is_bound(item: _Item | _AnyItem) -> bool:
    """Whether an item is sealed by the account of a vendor, or stands for what that keeps."""
    if item.type == "item_reference" or _given(item.encrypted_content):
        return True
    output: Any = item.output
    if isinstance(output, msgspec.Raw):
        try:
            output = _decode_parts(output)
        except jsontools.BAD_JSON:  # text, or what a tool of the vendor gives
            output = None
    lists = (one for one in (item.content, output) if isinstance(one, list))
    return any(_given(part.file_id) for parts in lists for part in parts)


def _given(value: str | msgspec.Raw | None) -> bool:
    if isinstance(value, msgspec.Raw):
        return bytes(value) not in (b"", b"null", b'""')
    return bool(value)


def _said(content: Any, needs: set[Capability.ValueType]) -> tuple[int, int]:
    """Bytes of text, and tokens of everything else, in a `content` or an `output`."""
    if content is None:
        return 0, 0
    if isinstance(content, str):
        return text_bytes(content), 0
    size = media = 0
    for part in content:
        size += text_bytes(part.text or part.refusal or "")
        media += _media_tokens(part, needs)
    return size, media


def _rest(item: _Item, needs: set[Capability.ValueType]) -> tuple[int, int]:
    size, media = _said(item.output, needs)
    for part in item.summary or ():
        size += text_bytes(part.text or "")
    return size + text_bytes(item.arguments or item.input or ""), media


def _any_rest(item: _AnyItem, needs: set[Capability.ValueType]) -> tuple[int, int]:
    output = bytes(item.output)
    others = len(item.arguments) + len(item.input) + len(item.summary)
    try:
        size, media = _said(_decode_parts(output), needs)
    except jsontools.BAD_JSON:  # text, or what a tool of the vendor gives
        size, media = len(output), 0
    return size + others, media


def _media_tokens(part: _Part | _AnyPart, needs: set[Capability.ValueType]) -> int:
    kind = part.type
    if kind in ("input_text", "output_text", "text"):
        return 0
    if kind in ("input_image", "computer_screenshot"):
        needs.add(pb.CAPABILITY_VISION)
        return TOKENS_PER_IMAGE
    if kind == "input_file":
        needs.add(pb.CAPABILITY_FILES)
        return len(part.file_data or "") // FILE_BYTES_PER_TOKEN + 1
    if kind == "input_audio":
        needs.add(pb.CAPABILITY_AUDIO_INPUT)
        size = len(part.input_audio) if isinstance(part, _AnyPart) else 0
        return size // AUDIO_BYTES_PER_TOKEN + 1
    return 0


def _needs(request: _Request, needs: set[Capability.ValueType]) -> None:
    if request.tools:
        needs.add(pb.CAPABILITY_TOOLS)
    form = request.text.format.type if request.text and request.text.format else ""
    if form == "json_object":
        needs.add(pb.CAPABILITY_JSON_OBJECT)
    elif form == "json_schema":
        needs.add(pb.CAPABILITY_JSON_SCHEMA)
    if request.include and LOGPROBS in request.include:
        needs.add(pb.CAPABILITY_LOGPROBS)
    if request.reasoning and request.reasoning.effort not in (None, "", "none"):
        needs.add(pb.CAPABILITY_REASONING)
