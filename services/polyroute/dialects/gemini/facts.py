"""What routing needs of a request, read at the door before anything else knows the body.

The body is decoded once into structs that name only what is needed. The conversation is cut out first, so that searches
for doubled members run over the short rest.
"""

import re
from typing import Any, Final

import msgspec

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Capability, Operation, RequestFacts
from polyroute.dialects import jsontools
from polyroute.dialects.gemini.common import camel
from polyroute.dialects.gemini.request import model_name
from polyroute.dialects.jsontools import decoded_member, invalid
from polyroute.dialects.openai.facts import (
    AUDIO_BYTES_PER_TOKEN,
    BYTES_PER_TOKEN,
    FILE_BYTES_PER_TOKEN,
    MAX_CHOICES,
    MAX_MESSAGES,
    MAX_MODEL_BYTES,
    MAX_STOPS,
    MAX_TOKENS,
    TOKENS_PER_IMAGE,
    TOKENS_PER_MESSAGE,
    text_bytes,
)

_ABSENT: Final = msgspec.Raw()
_MODALITIES: Final = {"AUDIO": pb.CAPABILITY_AUDIO_OUTPUT, "IMAGE": pb.CAPABILITY_IMAGE_OUTPUT}
_READ: Final = re.compile(
    rb'"(contents|generationConfig|generation_config|tools|systemInstruction|system_instruction|model)"[ \t\r\n]*:'
)
# A member may stand under either name; which of both a vendor reads is not ours to guess.
_TWINS: Final = {b"generation_config": b"generationConfig", b"system_instruction": b"systemInstruction"}
_ESCAPED_LETTER: Final = re.compile(rb"\\u00(?:5[fF]|[4-7][0-9a-fA-F])")  # no encoder escapes letters but to deceive


# A conversation is decoded in one of two ways: with the members that most requests have and no other, which bounds the
# nesting by itself; or tolerant of all others, whose nesting must then be measured.
class _PlainBlob(msgspec.Struct, gc=False, forbid_unknown_fields=True, rename="camel"):
    data: msgspec.Raw
    mime_type: str = ""


class _PlainPart(msgspec.Struct, gc=False, forbid_unknown_fields=True, rename="camel"):
    text: str = ""
    inline_data: _PlainBlob | None = None
    thought: bool | None = None
    thought_signature: str | None = None


class _PlainContent(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    parts: list[_PlainPart]
    role: str | None = None


# Members stand under either of two names; those in camelCase are the attributes that end in an underscore.
class _Blob(msgspec.Struct, gc=False):
    data: msgspec.Raw = _ABSENT
    mime_type_: str | None = msgspec.field(default=None, name="mimeType")
    mime_type: str | None = None


class _Part(msgspec.Struct, gc=False):
    text: str | None = None
    inline_data_: _Blob | None = msgspec.field(default=None, name="inlineData")
    inline_data: _Blob | None = None
    file_data_: _Blob | None = msgspec.field(default=None, name="fileData")
    file_data: _Blob | None = None
    function_call_: msgspec.Raw = msgspec.field(default=_ABSENT, name="functionCall")
    function_call: msgspec.Raw = _ABSENT
    function_response_: msgspec.Raw = msgspec.field(default=_ABSENT, name="functionResponse")
    function_response: msgspec.Raw = _ABSENT


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] | _Part | None = None
    role: str | None = None


class _Tool(msgspec.Struct, gc=False):
    function_declarations_: msgspec.Raw = msgspec.field(default=_ABSENT, name="functionDeclarations")
    function_declarations: msgspec.Raw = _ABSENT


class _Request(msgspec.Struct, gc=False):
    contents: msgspec.Raw = _ABSENT
    system_instruction_: _Content | None = msgspec.field(default=None, name="systemInstruction")
    system_instruction: _Content | None = None
    generation_config_: dict[str, Any] | None = msgspec.field(default=None, name="generationConfig")
    generation_config: dict[str, Any] | None = None
    tools: list[_Tool] | None = None
    model: str | None = None


_decode: Final = msgspec.json.Decoder(_Request).decode
_decode_plain: Final = msgspec.json.Decoder(list[_PlainContent]).decode
_decode_contents: Final = msgspec.json.Decoder(list[_Content] | _Content).decode


def read_facts(
    body: bytes, *, default_model: str = "", operation: Operation.ValueType = pb.OPERATION_CHAT
) -> RequestFacts:
    """The facts of a request; see `dialect.Dialect.read_facts`.

    The model and whether to stream stand in the address: `default_model` is the former, and goes before a model in the
    body; the latter is for the door to set.
    """
    try:
        request = _decode(body)
        raw = bytes(request.contents)
        outer = jsontools.without_value(body, b'"contents"', raw)
        _check_outer(outer)
        needs: set[Capability.ValueType] = set()
        tokens = _contents(raw, needs)
    except jsontools.BAD_JSON as error:
        jsontools.refuse(error)
    system = request.system_instruction_ or request.system_instruction
    if system is not None:
        tokens += _tokens_of(system, needs)
    for tool in request.tools or ():  # of functions, or one that Google runs, such as its search
        needs.add(pb.CAPABILITY_TOOLS)
        tokens += len(tool.function_declarations_ or tool.function_declarations) // BYTES_PER_TOKEN
    facts = RequestFacts(
        operation=operation,
        model=checked_model(default_model or request.model or ""),
        input_tokens_estimate=tokens,
        stream_usage=True,  # every answer of this format holds it
    )
    config = request.generation_config_ or request.generation_config
    if config:
        _config(camel(config, "generationConfig"), facts, needs)
    facts.needs.extend(sorted(needs))
    return facts


def checked_model(name: str) -> str:
    """The model's name, if it is one."""
    model = model_name(name)
    if not model:
        raise invalid("the request names no model", "model")
    if len(model.encode()) > MAX_MODEL_BYTES:
        raise invalid(f"the model's name is longer than {MAX_MODEL_BYTES} bytes", "model")
    return model


def _check_outer(outer: bytes) -> None:
    """Checks a body once its conversation is out: UTF-8 everywhere, no doubled members, no deep nesting."""
    jsontools.check_value(outer)
    found = [_TWINS.get(name, name) for name in _READ.findall(outer)]
    if len(found) == len(set(found)) and not (b"\\u00" in outer and _ESCAPED_LETTER.search(outer)):
        return
    seen: set[bytes] = set()
    for member in jsontools.members(outer):
        name = member.name.encode()
        known = _TWINS.get(name, name)
        if not _READ.fullmatch(b'"' + name + b'":'):
            continue
        if known in seen or not outer.startswith(b'"' + name + b'"', member.start):
            raise invalid(f"the member {member.name} stands twice, or its name is written with escapes", member.name)
        seen.add(known)


def _contents(raw: bytes, needs: set[Capability.ValueType]) -> int:
    """Tokens of a conversation, about; adds what it needs."""
    if not raw or raw == b"null":
        raise invalid("the request has no contents", "contents")
    contents: list[_PlainContent] | list[_Content]
    try:
        contents = _decode_plain(raw)
        tokens = _plain_tokens(contents, needs)
    except msgspec.ValidationError:
        found = decoded_member(_decode_contents, raw, "contents")
        contents = full = found if isinstance(found, list) else [found]
        tokens = sum(_tokens_of(content, needs) for content in full)
    if not contents:
        raise invalid("the request has no contents", "contents")
    if len(contents) > MAX_MESSAGES:
        raise invalid(f"more than {MAX_MESSAGES} contents", "contents")
    return tokens


def _plain_tokens(contents: list[_PlainContent], needs: set[Capability.ValueType]) -> int:
    size = media = 0
    for content in contents:
        for part in content.parts:
            if part.text:
                size += text_bytes(part.text)
            if part.inline_data is not None:
                data = bytes(part.inline_data.data)
                if not data.startswith(b'"') or not data.isascii():
                    raise invalid("the data is not base64", "contents[].parts[].inlineData.data")
                media += _media_tokens(part.inline_data.mime_type, len(data), needs)
    return size // BYTES_PER_TOKEN + media + TOKENS_PER_MESSAGE * len(contents)


def _tokens_of(content: _Content, needs: set[Capability.ValueType]) -> int:
    size = media = 0
    parts = content.parts
    for part in (parts or ()) if isinstance(parts, list | None) else (parts,):
        if part.text:
            size += text_bytes(part.text)
        size += len(part.function_call_) + len(part.function_call)
        size += len(part.function_response_) + len(part.function_response)
        blob = part.inline_data_ or part.inline_data or part.file_data_ or part.file_data
        if blob is not None:
            media += _media_tokens(blob.mime_type_ or blob.mime_type or "", len(blob.data), needs)
    return size // BYTES_PER_TOKEN + media + TOKENS_PER_MESSAGE


def _media_tokens(kind: str, size: int, needs: set[Capability.ValueType]) -> int:
    if kind.startswith(("image/", "video/")):
        needs.add(pb.CAPABILITY_VISION)
        return TOKENS_PER_IMAGE
    if kind.startswith("audio/"):
        needs.add(pb.CAPABILITY_AUDIO_INPUT)
        return size // AUDIO_BYTES_PER_TOKEN + 1
    needs.add(pb.CAPABILITY_FILES)
    return size // FILE_BYTES_PER_TOKEN + 1


def _config(config: dict[str, Any], facts: RequestFacts, needs: set[Capability.ValueType]) -> None:
    most = _whole(config, "maxOutputTokens", MAX_TOKENS)
    if most is not None:
        facts.max_output_tokens = most
    count = _whole(config, "candidateCount", MAX_CHOICES)
    if count == 0:
        raise invalid(f"candidateCount is not between 1 and {MAX_CHOICES}", "generationConfig.candidateCount")
    facts.choices = count or 0
    if len(_words(config, "stopSequences")) > MAX_STOPS:
        raise invalid(f"more than {MAX_STOPS} stop texts", "generationConfig.stopSequences")
    if "responseSchema" in config or "responseJsonSchema" in config:
        needs.add(pb.CAPABILITY_JSON_SCHEMA)
    elif config.get("responseMimeType") == "application/json":
        needs.add(pb.CAPABILITY_JSON_OBJECT)
    modalities = {word.upper() for word in _words(config, "responseModalities")}
    needs |= {_MODALITIES[word] for word in modalities & _MODALITIES.keys()}
    if config.get("responseLogprobs"):
        needs.add(pb.CAPABILITY_LOGPROBS)
    if _thinks(config.get("thinkingConfig")):
        needs.add(pb.CAPABILITY_REASONING)


def _whole(config: dict[str, Any], name: str, most: int) -> int | None:
    """A whole number up to a bound; some clients write 40.0. None when it is not there."""
    value = config.get(name)
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= most or value != int(value):
        raise invalid(f"{name} is not a whole number between 0 and {most}", f"generationConfig.{name}")
    return int(value)


def _words(config: dict[str, Any], name: str) -> list[str]:
    value = config.get(name, [])
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise invalid(f"{name} is not a list of texts", f"generationConfig.{name}")
    return words


def _thinks(value: Any) -> bool:
    """Whether thinking is asked for: a budget of 0 turns it off."""
    if value is None:
        return False
    if not isinstance(value, dict):
        raise invalid("thinkingConfig is not an object", "generationConfig.thinkingConfig")
    thinking = camel(value, "generationConfig.thinkingConfig")
    if "thinkingBudget" in thinking:
        return thinking["thinkingBudget"] not in (0, "0")
    return bool(thinking.get("thinkingLevel") or thinking.get("includeThoughts"))
