"""`gemini.embed`: POST /v1beta/models/MODEL:embedContent and :batchEmbedContents, vectors of texts.

https://ai.google.dev/api/embeddings. Clients ask for one text or for a batch; vendors are always asked for a batch,
which gives the same vectors. Two older forms of the vendor's cloud are spoken to vendors only: `gemini.embed_content`
(one text a request) and `gemini.predict`
(https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import RequestFacts, Usage
from polyroute.dialects import jsontools
from polyroute.dialects.asking import bad_answer, count_in, json_of_callers, object_in, objects_in, text_of, unsupported
from polyroute.dialects.dialect import NOTHING
from polyroute.dialects.embedding import (
    DOCUMENT,
    NO_EXTENSIONS,
    QUERY,
    EmbeddingDialect,
    EmbeddingOutbound,
    Question,
    Vectors,
    purpose_of,
)
from polyroute.dialects.gemini import faults, patch
from polyroute.dialects.gemini.common import camel, loads
from polyroute.dialects.gemini.facts import checked_model
from polyroute.dialects.jsontools import invalid
from polyroute.dialects.openai.facts import BYTES_PER_TOKEN, TOKENS_PER_IMAGE, check_outer, text_bytes
from polyroute.dialects.vectors import object_of, vectors_in
from polyroute.mesh.errors import MeshError

__all__ = ["CONTENT", "DIALECT", "NAME", "PREDICT", "GeminiEmbeddings", "Options", "read_facts"]

NAME: Final = "gemini.embed"
MAX_TEXTS: Final = 2048
_TASKS: Final[Mapping[str, str]] = {QUERY: "RETRIEVAL_QUERY", DOCUMENT: "RETRIEVAL_DOCUMENT"}
_MEMBERS: Final = frozenset({"model", "content", "taskType", "outputDimensionality", "embedContentConfig"})

Form = Literal["batch", "content", "predict"]


@dataclass(frozen=True, slots=True)
class Options:
    """How models differ.

    Attributes:
        task_types: What texts are for can be said; newer models are told so in the text itself, and refuse it.
    """

    task_types: bool = True


@dataclass(frozen=True, slots=True)
class GeminiEmbeddings:
    """The dialect; every method is as `embedding.EmbeddingDialect` says.

    Attributes:
        options: What a vendor's models take.
        form: How vendors are asked: for a batch, for a single text, or as a prediction.
    """

    options: Options = Options()
    form: Form = "batch"
    name: str = NAME

    def read_facts(self, body: bytes, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request; `default_model` is the one in the address."""
        return read_facts(body, default_model=default_model)

    def patch_request(self, body: bytes, facts: RequestFacts, *, model: str, drop: frozenset[str] = NOTHING) -> bytes:
        """The client's request as a batch for this model; every other member stays as it is."""
        return patch_request(body, facts, model, drop=drop)

    def fix_encoding(self, answer: bytes, request: bytes) -> tuple[bytes, Usage, int]:
        """A vendor's answer to a batch as the client of `request` expects it."""
        vectors, usage, _ = read_answer(answer)
        if _is_batch(request):
            return answer, usage, len(vectors)
        value = object_of(answer)
        out = {name: item for name, item in value.items() if name != "embeddings"}
        first = next(iter(objects_in(value.get("embeddings"))), object_in(value.get("embedding")))
        return jsontools.dumps({"embedding": first} | out), usage, len(vectors)

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
        """A request to a vendor."""
        dropped = ["input_type"] if input_type and not self.options.task_types else []
        task = "" if dropped else _TASKS.get(input_type, input_type.upper())
        if self.form == "predict":
            return _predict(texts, task, dimensions), dropped
        with json_of_callers():
            config: dict[str, Any] = {name: jsontools.loads(raw) for name, raw in extensions.items()}
        config |= ({"taskType": task} if task else {}) | ({"outputDimensionality": dimensions} if dimensions else {})
        requests = [{"content": {"parts": [{"text": text}]}} | config for text in texts]
        if self.form == "batch":
            named = [{"model": patch.resource(model)} | request for request in requests]
            return jsontools.dumps({"requests": named}), dropped
        if len(requests) != 1:
            raise unsupported("this deployment embeds one text at a time", "input")
        return jsontools.dumps(requests[0]), dropped

    def read_answer(self, body: bytes) -> Vectors:
        """A vendor's whole answer, in any of the forms; it names no model."""
        return read_answer(body)

    def write_answer(self, vectors: Sequence[Sequence[float]], usage: Usage, *, model: str, base64: bool) -> bytes:
        """An answer for a client; a single vector under the names of both methods, for either may have been called."""
        out: dict[str, Any] = {"embeddings": [{"values": list(vector)} for vector in vectors]}
        if len(vectors) == 1:
            out = {"embedding": out["embeddings"][0]} | out
        tokens = usage.input_tokens + usage.cache_read_tokens
        if tokens:
            out["usageMetadata"] = {"promptTokenCount": tokens, "totalTokenCount": tokens}
        return jsontools.dumps(out)

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return faults.fault_of(status, body, headers)


def read_facts(body: bytes, *, default_model: str = "") -> RequestFacts:
    """What routing needs of a client's request.

    Raises:
        MeshError: REASON_INVALID_REQUEST; metadata `param` names the member.
    """
    entries = _entries(body)
    check_outer(body)
    size = media = 0
    for number, entry in enumerate(entries):
        for part in _parts_of(entry.get("content"), f"requests[{number}].content"):
            size += text_bytes(text_of(part.get("text")))
            media += "text" not in part
    return RequestFacts(
        operation=pb.OPERATION_EMBEDDING,
        model=checked_model(default_model or text_of(entries[0].get("model"))),
        input_tokens_estimate=size // BYTES_PER_TOKEN + media * TOKENS_PER_IMAGE,
        needs=[pb.CAPABILITY_VISION] if media else [],
    )


def _value(body: bytes) -> dict[str, Any]:
    try:
        value = loads(body)
    except ValueError:
        raise invalid("the body is not valid JSON") from None
    if not isinstance(value, dict):
        raise invalid("the body is not a JSON object")
    return value


def _is_batch(body: bytes) -> bool:
    return "requests" in _value(body)


def _entries(body: bytes) -> list[dict[str, Any]]:
    """The requests of a body, one a text."""
    value = _value(body)
    requests = value.get("requests", value)
    entries = [camel(entry) for entry in objects_in(requests)]
    if not entries or (isinstance(requests, list) and len(entries) < len(requests)):
        raise invalid("the request has no requests, or some that are no objects", "requests")
    if len(entries) > MAX_TEXTS:
        raise invalid(f"more than {MAX_TEXTS} requests", "requests")
    return entries


def read_question(body: bytes) -> Question:
    """See `embedding.EmbeddingDialect.read_request`.

    Raises:
        MeshError: REASON_INVALID_REQUEST; FAULT_UNSUPPORTED for pictures and for a batch whose texts differ in more
            than themselves, which only a deployment of this dialect serves.
    """
    entries = [{**entry, **camel(object_in(entry.get("embedContentConfig")))} for entry in _entries(body)]
    texts = [_text_of(entry.get("content"), f"requests[{number}].content") for number, entry in enumerate(entries)]
    sizes = {_dimensions(entry.get("outputDimensionality")) for entry in entries}
    tasks = {text_of(entry.get("taskType")) for entry in entries}
    if len(sizes) > 1 or len(tasks) > 1:
        raise unsupported("the requests of a batch differ in more than their texts", "requests")
    extensions = {
        name: jsontools.dumps(item) for entry in entries for name, item in entry.items() if name not in _MEMBERS
    }
    task = tasks.pop().removesuffix("TASK_TYPE_UNSPECIFIED")
    return Question(
        texts=texts,
        tokens=[],
        dimensions=sizes.pop(),
        input_type=purpose_of(task),
        base64=False,
        extensions=extensions,
    )


def _dimensions(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 1 << 20:
        raise invalid("outputDimensionality is not between 1 and 1048576", "outputDimensionality")
    return int(value)


def _parts_of(content: object, where: str) -> list[dict[str, Any]]:
    parts = [camel(part) for part in objects_in(object_in(content).get("parts"))]
    if not parts:
        raise invalid("a content has no parts", where)
    if not all(isinstance(part.get("text", ""), str) for part in parts):
        raise invalid("expected text", where)
    return parts


def _text_of(content: object, where: str) -> str:
    """The text of a content: its parts are one text."""
    texts = [part.get("text") for part in _parts_of(content, where)]
    if not all(isinstance(text, str) for text in texts):
        raise unsupported("only texts can be embedded by another deployment", where)
    return "\n".join(text_of(text) for text in texts)


def patch_request(body: bytes, facts: RequestFacts, model: str, *, drop: frozenset[str] = NOTHING) -> bytes:
    """The client's own bytes as a batch for this model: in every request the model's name, which must be the one asked.

    Args:
        body: A body that `read_facts` accepted.
        facts: What it answered.
        model: The model's id in the vendor's words.
        drop: Members of the single requests that must not reach the vendor.
    """
    value = _value(body)
    named = {"model": patch.resource(model)}
    requests = [
        named | {name: item for name, item in entry.items() if name != "model" and name not in drop}
        for entry in objects_in(value.get("requests", value))
    ]
    return jsontools.dumps({"requests": requests})


def _predict(texts: Sequence[str], task: str, dimensions: int | None) -> bytes:
    typed = {"task_type": task} if task else {}
    out: dict[str, Any] = {"instances": [{"content": text} | typed for text in texts]}
    return jsontools.dumps(out | ({"parameters": {"outputDimensionality": dimensions}} if dimensions else {}))


def read_answer(body: bytes) -> Vectors:
    """A vendor's answer: to a batch, to a single text, or a prediction.

    Raises:
        MeshError: the fault inside an error body, FAULT_BAD_ANSWER for anything else that is no answer.
    """
    value = object_of(body)
    if value.get("error"):
        raise faults.fault_in(value)
    predictions = objects_in(value.get("predictions"))
    found = [object_in(item.get("embeddings")) for item in predictions]
    entries = found or objects_in(value.get("embeddings")) or objects_in(value.get("embedding"))
    if not entries:
        raise bad_answer("the provider's answer holds no vectors")
    usage = object_in(value.get("usageMetadata"))
    counted = sum(count_in(object_in(entry.get("statistics")).get("token_count")) for entry in entries)
    tokens = count_in(usage.get("totalTokenCount")) or count_in(usage.get("promptTokenCount")) or counted
    return Vectors(vectors_in([entry.get("values") for entry in entries]), Usage(input_tokens=tokens), "")


DIALECT: Final[EmbeddingDialect] = GeminiEmbeddings()
CONTENT: Final[EmbeddingOutbound] = GeminiEmbeddings(form="content", name="gemini.embed_content")
PREDICT: Final[EmbeddingOutbound] = GeminiEmbeddings(form="predict", name="gemini.predict")
