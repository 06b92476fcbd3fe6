"""`openai.embeddings`: POST /v1/embeddings, vectors of texts.

https://platform.openai.com/docs/api-reference/embeddings. Vectors travel as lists of numbers or, when the client says
`encoding_format: base64`, as base64 of little-endian 32-bit floats.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import RequestFacts, Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import faults, jsontools
from polyroute.dialects.dialect import NOTHING
from polyroute.dialects.embedding import NO_EXTENSIONS, EmbeddingDialect, Question, Vectors, purpose_of
from polyroute.dialects.jsontools import invalid
from polyroute.dialects.openai import facts as request_facts
from polyroute.dialects.openai import patch
from polyroute.dialects.openai.common import usage_from, usage_json
from polyroute.dialects.openai.meter import object_of
from polyroute.dialects.openai_completions import prompt_tokens
from polyroute.mesh.errors import MeshError

NAME: Final = "openai.embeddings"
_NOTHING_USED: Final = Usage()
_MEMBERS: Final = frozenset({"model", "input", "dimensions", "encoding_format", "input_type", "task"})
# No embedding model writes components like these; bytes that are not 32-bit floats read as such do.
_ABSURD: Final = 1e6


class _Request(request_facts.Common, gc=False):
    input: msgspec.Raw = msgspec.Raw()
    dimensions: int | None = None
    encoding_format: str | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """How the vendors of this format differ in its members.

    Attributes:
        dimensions_member: Where the length of vectors is said.
        input_type_member: Where it is said what texts are for; empty when nowhere.
        input_types: Words for what texts are for, and the vendor's own for each where that is another.
        encoding: The member and value that say how vectors travel; base64 is a third of the size of numbers.
    """

    dimensions_member: str = "dimensions"
    input_type_member: str = ""
    input_types: tuple[tuple[str, str], ...] = ()
    encoding: tuple[str, str] = ("encoding_format", "base64")


class _Vector(msgspec.Struct, gc=False):
    embedding: msgspec.Raw = msgspec.Raw()


class _Answer(msgspec.Struct, gc=False):
    data: list[_Vector] | None = None
    usage: dict[str, Any] | None = None
    model: str | None = None
    error: msgspec.Raw = msgspec.Raw()


_decode_request: Final = msgspec.json.Decoder(_Request).decode
_decode_answer: Final = msgspec.json.Decoder(_Answer).decode
_decode_floats: Final = msgspec.json.Decoder(list[float]).decode
_decode_text: Final = msgspec.json.Decoder(str).decode


def read_facts(body: bytes, *, default_model: str = "") -> RequestFacts:
    """What routing needs of a client's request.

    Raises:
        MeshError: REASON_INVALID_REQUEST; metadata `param` names the member.
    """
    request, tokens = _read(body)
    needs = {pb.CAPABILITY_TOKEN_INPUT} if _is_tokens(bytes(request.input)) else set()
    return request_facts.facts_of(request, pb.OPERATION_EMBEDDING, tokens, needs, default_model, None)


def _read(body: bytes) -> tuple[_Request, int]:
    try:
        request = _decode_request(body)
        raw = bytes(request.input)
        request_facts.check_outer(jsontools.without_value(body, b'"input"', raw))
        tokens = prompt_tokens(raw, "input")
    except jsontools.BAD_JSON as error:
        jsontools.refuse(error)
    if request.dimensions is not None and not 1 <= request.dimensions <= 1 << 20:
        raise invalid("dimensions is not between 1 and 1048576", "dimensions")
    if request.encoding_format not in (None, "float", "base64") and not request.encoding_format.startswith("base64_"):
        raise invalid("encoding_format is neither float nor base64", "encoding_format")
    return request, tokens


def _is_tokens(raw: bytes) -> bool:
    """Whether a valid input is token ids: a list whose first entry is a number or a list."""
    return raw[1:].lstrip()[:1] not in (b'"', b"") if raw.startswith(b"[") else False


def patch_request(body: bytes, facts: RequestFacts, model: str, *, drop: frozenset[str] = frozenset()) -> bytes:
    """The client's own bytes with only the model's name changed, and the members in `drop` removed."""
    return patch.patch_request(body, facts, model=model, ask_usage=False, drop=drop)


def wants_base64(body: bytes) -> bool:
    """Whether the client asked for base64."""
    return _decode_request(body).encoding_format == "base64"


def read_texts(body: bytes) -> tuple[list[str], int | None]:
    """The texts of a client's request and the length of vectors it asks for, for a vendor of another dialect.

    Raises:
        MeshError: REASON_INVALID_REQUEST for token ids, which only their own vendor can read.
    """
    request, _ = _read(body)
    value = jsontools.loads(bytes(request.input))
    texts = [value] if isinstance(value, str) else value
    if not all(isinstance(text, str) for text in texts):
        raise invalid("token ids are only served by a deployment that takes them", "input")
    return texts, request.dimensions


def read_question(body: bytes) -> Question:
    """See `embedding.EmbeddingDialect.read_request`; some clients say what texts are for, by either of two members."""
    request, _ = _read(body)
    value = jsontools.loads(bytes(request.input))
    ids = _is_tokens(bytes(request.input))
    entries = [value] if isinstance(value, str) or (ids and isinstance(value[0], int)) else value
    members = jsontools.members_of(body)
    return Question(
        texts=[] if ids else entries,
        tokens=entries if ids else [],
        dimensions=request.dimensions,
        input_type=purpose_of(_word(members.get("input_type")) or _word(members.get("task"))),
        base64=request.encoding_format == "base64",
        extensions={name: bytes(raw) for name, raw in members.items() if name not in _MEMBERS},
    )


def _word(raw: msgspec.Raw | None) -> str:
    value = jsontools.loads(bytes(raw)) if raw is not None else None
    return value if isinstance(value, str) else ""


def write_request(texts: Sequence[str], *, model: str, dimensions: int | None = None) -> bytes:
    """A request to a vendor, for base64, which is a third of the size of numbers."""
    return DIALECT.write_request(texts, model=model, dimensions=dimensions)[0]


def read_answer(body: bytes) -> Vectors:
    """A vendor's answer: vectors in the order of the texts, usage, and the model in the vendor's words.

    Raises:
        MeshError: the fault inside an error body, FAULT_BAD_ANSWER for anything else that is no answer.
    """
    value = object_of(body)
    if value.get("error") or not isinstance(value.get("data"), list) or not value["data"]:
        raise _no_answer(value)
    entries = [item for item in value["data"] if isinstance(item, dict)]
    if all(isinstance(item.get("index"), int) for item in entries):
        entries.sort(key=lambda item: item["index"])
    vectors = [_vector(item.get("embedding")) for item in entries]
    model = value.get("model")
    return Vectors(vectors, _used(value.get("usage")), model if isinstance(model, str) else "")


def _used(usage: object) -> Usage:
    """What was used: all of it is input, by whichever name a vendor counts it."""
    if isinstance(usage, dict) and not usage.get("prompt_tokens") and usage.get("total_tokens"):
        usage = usage | {"prompt_tokens": usage["total_tokens"]}
    return usage_from(usage) or _NOTHING_USED


def _vector(value: object) -> list[float]:
    if isinstance(value, str):
        floats = _floats(value)
        if floats is None:
            raise _bad("the provider's vectors are in an unknown encoding")
        return floats
    if isinstance(value, list) and all(type(number) in (int, float) for number in value):
        return [float(number) for number in value]
    raise _bad("the provider's answer holds no vectors")


def _floats(text: str) -> list[float] | None:
    """Base64 of 32-bit floats; None when it holds something else."""
    try:
        data = jsontools.unpacked(text)
    except ValueError:
        return None
    if not data or len(data) % 4:
        return None
    floats = list(struct.unpack(f"<{len(data) // 4}f", data))
    return floats if all(math.isfinite(number) and abs(number) < _ABSURD for number in floats) else None


def write_answer(vectors: Sequence[Sequence[float]], usage: Usage, model: str, *, base64: bool) -> bytes:
    """An answer for a client; `model` is the name it asked for."""
    figures = usage_json(usage)
    data = [
        {"object": "embedding", "index": number, "embedding": _packed(vector) if base64 else list(vector)}
        for number, vector in enumerate(vectors)
    ]
    used = {"prompt_tokens": figures["prompt_tokens"], "total_tokens": figures["total_tokens"]}
    return jsontools.dumps({"object": "list", "data": data, "model": model, "usage": used})


def _packed(vector: Sequence[float]) -> str:
    return jsontools.packed(struct.pack(f"<{len(vector)}f", *vector))


def fix_encoding(answer: bytes, *, base64: bool) -> tuple[bytes, Usage, int]:
    """The vendor's answer in the encoding the client asked for, its usage, and how many vectors it holds.

    Byte for byte as it came when the encoding is right already, and when it is one that this format does not know
    (8-bit components, single bits): a client that gets such has asked for it.

    Raises:
        MeshError: as `read_answer`.
    """
    try:
        parsed = _decode_answer(answer)
    except jsontools.BAD_JSON:
        raise _no_answer(object_of(answer)) from None
    if not parsed.data or bytes(parsed.error) not in (b"", b"null"):
        raise _no_answer(object_of(answer))
    usage = _used(parsed.usage)
    raws = [bytes(vector.embedding) for vector in parsed.data]
    if not all(raws):
        raise _bad("the provider's answer holds no vectors")
    if all(raw.startswith(b'"') == base64 for raw in raws):
        return answer, usage, len(raws)
    converted = [_converted(raw, base64=base64) for raw in raws]
    if any(value is None for value in converted):
        return answer, usage, len(raws)
    value = object_of(answer)
    for entry, vector in zip(value["data"], converted, strict=True):
        entry["embedding"] = vector
    return jsontools.dumps(value), usage, len(raws)


def _converted(raw: bytes, *, base64: bool) -> str | list[float] | None:
    """One vector in the encoding asked for; None when it cannot be read."""
    try:
        if raw.startswith(b'"'):
            return _decode_text(raw) if base64 else _floats(_decode_text(raw))
        floats = _decode_floats(raw)
        return _packed(floats) if base64 else floats
    except msgspec.DecodeError:
        return None


@dataclass(frozen=True, slots=True)
class OpenAIEmbeddings:
    """The dialect; every method is as `embedding.EmbeddingDialect` says.

    Attributes:
        options: What a vendor takes, where vendors differ.
    """

    name: str = NAME
    options: Options = field(default_factory=Options)

    def read_facts(self, body: bytes, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request."""
        return read_facts(body, default_model=default_model)

    def patch_request(self, body: bytes, facts: RequestFacts, *, model: str, drop: frozenset[str] = NOTHING) -> bytes:
        """The client's own bytes, changed only where they must be."""
        return patch_request(body, facts, model, drop=drop)

    def fix_encoding(self, answer: bytes, request: bytes) -> tuple[bytes, Usage, int]:
        """A vendor's answer in the encoding that the client asked for."""
        return fix_encoding(answer, base64=wants_base64(request))

    def read_request(self, body: bytes) -> Question:
        """A client's request, for a vendor of another dialect."""
        return read_question(body)

    def write_request(
        self,
        texts: Sequence[str],
        *,
        model: str,
        dimensions: int | None = None,
        input_type: str = "",
        extensions: Mapping[str, bytes] = NO_EXTENSIONS,
    ) -> tuple[bytes, list[str]]:
        """A request to a vendor, and the parameters that were left out."""
        options = self.options
        out: dict[str, Any] = {"model": model, "input": list(texts), options.encoding[0]: options.encoding[1]}
        if dimensions:
            out[options.dimensions_member] = dimensions
        dropped: list[str] = []
        word = dict(options.input_types).get(input_type, input_type)
        if word and options.input_type_member:
            out[options.input_type_member] = word
        elif word:
            dropped.append("input_type")
        for name, raw in extensions.items():
            out.setdefault(name, jsontools.loads(raw))
        return jsontools.dumps(out), dropped

    def read_answer(self, body: bytes) -> Vectors:
        """A vendor's answer."""
        return read_answer(body)

    def write_answer(self, vectors: Sequence[Sequence[float]], usage: Usage, *, model: str, base64: bool) -> bytes:
        """An answer for a client."""
        return write_answer(vectors, usage, model, base64=base64)

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return faults.fault_of(status, body, headers)


DIALECT: Final[EmbeddingDialect] = OpenAIEmbeddings()


def fault_of(status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
    """A vendor's refusal or failure as a classified error."""
    return faults.fault_of(status, body, headers)


def _no_answer(value: dict[str, Any]) -> MeshError:
    return faults.fault_in(value) if value.get("error") else _bad("the provider's answer holds no vectors")


def _bad(message: str) -> MeshError:
    return MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, message)
