"""What a fake vendor does besides conversation: the same answer to the same question, so that tests can foretell it."""

import base64
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

PNG: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SOUND: Final = b"ID3\x04\x00\x00" + bytes(range(256)) * 32
COUNTED: Final = 42  # tokens in anything that is counted


@dataclass(frozen=True, slots=True)
class Work:
    """An answer to work other than conversation.

    Attributes:
        body: As it leaves.
        kind: Its media type.
        pieces: In how many network pieces.
    """

    body: bytes
    kind: str = "application/json"
    pieces: int = 1


@dataclass(frozen=True, slots=True)
class Form:
    """A request's fields: of a form, or the members of a JSON object."""

    fields: Mapping[str, Any]
    files: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)


def vector(text: str) -> list[float]:
    """The vector of a text."""
    return [float(len(text)), 0.5, -0.25]


def _json(value: object) -> Work:
    return Work(orjson.dumps(value))


def _texts(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else [str(one) for one in given]


def embeddings(form: Form) -> Work:
    """https://platform.openai.com/docs/api-reference/embeddings/create."""
    entries = []
    for index, text in enumerate(_texts(form.fields["input"])):
        values = vector(text)
        packed = base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
        told = packed if form.fields.get("encoding_format") == "base64" else values
        entries.append({"object": "embedding", "index": index, "embedding": told})
    usage = {"prompt_tokens": 6, "total_tokens": 6}
    return _json({"object": "list", "model": "up", "data": entries, "usage": usage})


def gemini_embeddings(form: Form) -> Work:
    """https://ai.google.dev/api/embeddings."""
    texts = ["".join(part["text"] for part in one["content"]["parts"]) for one in form.fields["requests"]]
    return _json({"embeddings": [{"values": vector(text)} for text in texts]})


def rerank(form: Form) -> Work:
    """https://docs.cohere.com/reference/rerank: the last document first."""
    count = len(form.fields["documents"])
    results = [{"index": count - 1 - place, "relevance_score": 0.9 - place / 10} for place in range(count)]
    told = results[: form.fields.get("top_n") or count]
    return _json({"id": "rr-1", "results": told, "meta": {"billed_units": {"search_units": 1}}})


def images(form: Form) -> Work:
    """https://platform.openai.com/docs/api-reference/images: one picture, and what was sent to be edited."""
    entry = {"b64_json": base64.b64encode(PNG).decode(), "revised_prompt": form.fields["prompt"]}
    details = {"text_tokens": 3, "image_tokens": 0}
    usage = {"input_tokens": 3, "output_tokens": 8, "total_tokens": 11, "input_tokens_details": details}
    return _json({"created": 1, "data": [entry], "usage": usage})


def speech(form: Form) -> Work:
    """https://platform.openai.com/docs/api-reference/audio/createSpeech."""
    return Work(SOUND, "audio/mpeg", pieces=5)


def transcription(form: Form) -> Work:
    """https://platform.openai.com/docs/api-reference/audio/createTranscription."""
    name, sound = form.files["file"]
    text = f"{name}: {len(sound)} bytes"
    if form.fields.get("response_format") == "text":
        return Work(text.encode() + b"\n", "text/plain; charset=utf-8")
    return _json({"text": text, "usage": {"type": "tokens", "input_tokens": 5, "output_tokens": 2, "total_tokens": 7}})


def moderations(form: Form) -> Work:
    """https://platform.openai.com/docs/api-reference/moderations: whatever holds `bad` is."""
    results = []
    for text in _texts(form.fields["input"]):
        bad = "bad" in text
        scores = {"violence": 0.9 if bad else 0.1}
        results.append({"flagged": bad, "categories": {"violence": bad}, "category_scores": scores})
    return _json({"id": "modr-1", "model": "up", "results": results})


def anthropic_count(form: Form) -> Work:
    """https://platform.claude.com/docs/en/api/messages-count-tokens."""
    return _json({"input_tokens": COUNTED})


def openai_count(form: Form) -> Work:
    """https://platform.openai.com/docs/api-reference/responses/input-tokens."""
    return _json({"object": "response.input_tokens", "input_tokens": COUNTED})


def openai_compact(form: Form) -> Work:
    """https://platform.openai.com/docs/api-reference/responses/compact."""
    item = {"type": "compaction", "id": "cmp_1", "encrypted_content": "c2VhbGVk"}
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    return _json({"id": "resp_1", "object": "response.compaction", "created_at": 1, "output": [item], "usage": usage})


def bedrock_count(form: Form) -> Work:
    """https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CountTokens.html."""
    return _json({"inputTokens": COUNTED})


def gemini_count(form: Form) -> Work:
    """https://ai.google.dev/api/tokens."""
    return _json({"totalTokens": COUNTED})


def files(form: Form) -> Work:
    """https://platform.openai.com/docs/api-reference/files/create."""
    name, content = form.files["file"]
    return _json({"id": "file-1", "object": "file", "filename": name, "bytes": len(content), "purpose": "batch"})


# Ends of paths.
WORKS: Final[Mapping[str, Callable[[Form], Work]]] = {
    "/embeddings": embeddings,
    ":batchEmbedContents": gemini_embeddings,
    "/rerank": rerank,
    "/images/generations": images,
    "/images/edits": images,
    "/audio/speech": speech,
    "/audio/transcriptions": transcription,
    "/moderations": moderations,
    "/messages/count_tokens": anthropic_count,
    "/count-tokens": bedrock_count,
    "/responses/input_tokens": openai_count,
    "/responses/compact": openai_compact,
    ":countTokens": gemini_count,
    "/files": files,
}
