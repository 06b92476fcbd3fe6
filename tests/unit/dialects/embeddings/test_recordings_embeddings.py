"""Every recorded exchange for vectors, read by its dialect and by a naive reading of the raw JSON."""

import base64
import json
import struct
from typing import Any

import pytest

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.embedding import EmbeddingOutbound
from polyroute.dialects.embedding_registry import EMBEDDINGS
from polyroute.mesh.errors import MeshError
from tests.recordings import FOLDER, Row, body_of, cases, check, exchanges

WIRES = {
    "cohere.embed_v1": "cohere.embed",
    "cohere.embed_v2": "cohere.embed",
    "cohere.embeddings": "cohere.embed",
    "ollama.embed": "ollama.embed",
    "dashscope.text_embedding": "dashscope.embed",
    "voyage.embeddings": "voyage.embed",
}
ROWS = exchanges(*WIRES)
pytestmark = pytest.mark.skipif(not ROWS, reason=f"no recordings in {FOLDER}")


def dialect_of(row: Row) -> EmbeddingOutbound:
    """The dialect of an exchange."""
    return EMBEDDINGS[WIRES[row["wire"]]]


def naive(value: Any) -> list[list[float]] | None:
    """The vectors of an answer; None when it has none."""
    if "data" in value:
        return [numbers(entry["embedding"]) for entry in value["data"]]
    found = value.get("embeddings") or value.get("output", {}).get("embeddings")
    if isinstance(found, dict):
        found = next(iter(found.values()))
    return [numbers(entry["embedding"] if isinstance(entry, dict) else entry) for entry in found] if found else None


def numbers(vector: Any) -> list[float]:
    """A vector out of base64, or as it is."""
    if not isinstance(vector, str):
        return list(vector)
    data = base64.b64decode(vector)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def naive_usage(value: Any) -> int | None:
    """The tokens that were used, where they are told."""
    billed = value.get("meta", {}).get("billed_units", {})
    usage = value.get("usage") or {}
    told = value.get("prompt_eval_count") or usage.get("prompt_tokens") or usage.get("total_tokens")
    return told or (billed.get("input_tokens", 0) + billed.get("image_tokens", 0) if billed else None)


@cases([row for row in ROWS if row["status"] == 200])
def test_recorded_vectors_read_like_their_json(row: Row) -> None:
    """Vectors and usage are those of the raw JSON; work that goes on elsewhere is no answer."""
    raw = body_of(row)
    expected = naive(json.loads(raw))
    if expected is None:
        with pytest.raises(MeshError) as caught:
            dialect_of(row).read_answer(raw)
        check("no answer", holds=caught.value.fault == errors_pb2.FAULT_BAD_ANSWER)
        return

    vectors, usage, _ = dialect_of(row).read_answer(raw)

    check("vectors", holds=expected == vectors)
    told = naive_usage(json.loads(raw))
    check("usage", holds=told is None or told == usage.input_tokens + usage.cache_read_tokens)


@cases([row for row in ROWS if row["status"] != 200])
def test_a_recorded_error_has_a_class(row: Row) -> None:
    """Never none."""
    error = dialect_of(row).fault_of(row["status"], body_of(row), {})

    check("class", holds=error.fault not in (errors_pb2.FAULT_UNSPECIFIED, errors_pb2.FAULT_BAD_ANSWER))
    check("gone", holds=row["status"] != 404 or error.fault == errors_pb2.FAULT_MODEL_GONE)
