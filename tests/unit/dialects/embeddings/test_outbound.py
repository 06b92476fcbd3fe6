"""Vectors in the formats that only vendors speak."""

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.embedding import DOCUMENT, QUERY, EmbeddingOutbound, purpose_of
from polyroute.dialects.embedding_registry import EMBEDDINGS
from polyroute.mesh.errors import MeshError
from tests.outbound import VALUES, attempt, broken

COHERE = EMBEDDINGS["cohere.embed"]
OLLAMA = EMBEDDINGS["ollama.embed"]
DASHSCOPE = EMBEDDINGS["dashscope.embed"]
VOYAGE = EMBEDDINGS["voyage.embed"]
JINA = EMBEDDINGS["jina.embed"]
every = pytest.mark.parametrize("dialect", EMBEDDINGS.values(), ids=EMBEDDINGS)


@pytest.mark.parametrize(
    ("dialect", "expected", "dropped"),
    [
        (
            COHERE,
            {"texts": ["a"], "input_type": "search_query", "embedding_types": ["float"], "output_dimension": 8},
            [],
        ),
        (OLLAMA, {"input": ["a"], "dimensions": 8}, ["input_type"]),
        (DASHSCOPE, {"input": {"texts": ["a"]}, "parameters": {"dimension": 8, "text_type": "query"}}, []),
        (VOYAGE, {"input": ["a"], "encoding_format": "base64", "output_dimension": 8, "input_type": "query"}, []),
        (JINA, {"input": ["a"], "embedding_type": "float", "dimensions": 8, "task": "retrieval.query"}, []),
    ],
)
def test_a_request_by_the_vendors_names(
    dialect: EmbeddingOutbound, expected: dict[str, Any], dropped: list[str]
) -> None:
    """Texts, length and purpose, each where the vendor looks for it."""
    body, left_out = dialect.write_request(["a"], model="up", dimensions=8, input_type=QUERY)

    assert ({"model": "up", **expected}, dropped) == (json.loads(body), left_out)


@pytest.mark.parametrize(
    ("dialect", "member", "word"),
    [(COHERE, "input_type", "search_document"), (VOYAGE, "input_type", None), (JINA, "task", None)],
)
def test_no_purpose_is_made_up_but_where_one_is_needed(
    dialect: EmbeddingOutbound, member: str, word: str | None
) -> None:
    """One vendor refuses texts that are for nothing."""
    body, _ = dialect.write_request(["a"], model="up")

    assert word == json.loads(body).get(member)


@every
def test_extensions_are_sent_and_never_over_the_request(dialect: EmbeddingOutbound) -> None:
    """`truncate` and the like of the format itself; where texts have requests of their own, these hold them."""
    if dialect.name.startswith("gemini."):
        return  # tests/unit/dialects/gemini
    extensions = {"truncate": b'"END"', "model": b'"other"'}

    body, _ = dialect.write_request(["a"], model="up", extensions=extensions)

    assert b'"truncate":"END"' in body
    assert "up" == json.loads(body).get("model", "up")  # it stands in the path where the body has none


BY_TYPE = {"id": "x", "texts": ["a"], "meta": {"billed_units": {"input_tokens": 3, "image_tokens": 2, "images": 1}}}
PACKED = base64.b64encode(struct.pack("<2f", 0.5, -2.0)).decode()


@pytest.mark.parametrize(
    ("dialect", "answer", "vectors", "tokens"),
    [
        (COHERE, {**BY_TYPE, "embeddings": {"float": [[0.5, -2]]}}, [[0.5, -2]], 5),
        (COHERE, {**BY_TYPE, "embeddings": {"int8": [[1, -2]]}}, [[1, -2]], 5),
        (COHERE, {"embeddings": [[0.5, 1], [2, 3]], "response_type": "embeddings_floats"}, [[0.5, 1], [2, 3]], 0),
        (OLLAMA, {"model": "m", "embeddings": [[0.5]], "prompt_eval_count": 4}, [[0.5]], 4),
        (OLLAMA, {"embedding": [0.5, 1]}, [[0.5, 1]], 0),
        (
            DASHSCOPE,
            {
                "output": {"embeddings": [{"embedding": [1], "text_index": 1}, {"embedding": [0], "text_index": 0}]},
                "usage": {"total_tokens": 6},
            },
            [[0], [1]],
            6,
        ),
        (VOYAGE, {"data": [{"embedding": PACKED, "index": 0}], "usage": {"total_tokens": 7}}, [[0.5, -2]], 7),
        (JINA, {"data": [{"embedding": [1], "index": 0}], "usage": {"total_tokens": 7, "prompt_tokens": 7}}, [[1]], 7),
    ],
)
def test_an_answer(dialect: EmbeddingOutbound, answer: dict[str, Any], vectors: list[list[float]], tokens: int) -> None:
    """Vectors in the order of the texts; all that was used is input."""
    values, usage, _ = dialect.read_answer(json.dumps(answer).encode())

    assert (vectors, tokens) == (values, usage.input_tokens)
    assert 0 == usage.output_tokens + usage.reasoning_tokens


def test_pictures_are_counted_beside() -> None:
    """As input, and by themselves for the record."""
    _, usage, _ = COHERE.read_answer(json.dumps({**BY_TYPE, "embeddings": {"float": [[1]]}}).encode())

    assert pb.Usage(input_tokens=5, other={"input_image_tokens": 2, "input_images": 1}) == usage


@every
@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"{}", b'{"embeddings":[["a"]]}', b'{"data":[{}]}', b'{"emb'])
def test_what_is_no_answer(dialect: EmbeddingOutbound, body: bytes) -> None:
    """Nothing, pages, and what holds no numbers."""
    with pytest.raises(MeshError) as caught:
        dialect.read_answer(body)

    assert errors_pb2.FAULT_BAD_ANSWER == caught.value.fault


@pytest.mark.parametrize(
    ("dialect", "body", "fault"),
    [
        (COHERE, {"message": "too many tokens: x"}, errors_pb2.FAULT_CONTEXT),
        (OLLAMA, {"error": "the model runner is gone"}, errors_pb2.FAULT_SERVER),
        (DASHSCOPE, {"code": "Throttling", "message": "x"}, errors_pb2.FAULT_RATE),
        (DASHSCOPE, {"output": {"task_status": "PENDING", "task_id": "t"}}, errors_pb2.FAULT_BAD_ANSWER),
        (VOYAGE, {"error": {"code": "rate_limit_exceeded", "message": "x"}}, errors_pb2.FAULT_RATE),
    ],
)
def test_an_error_in_place_of_an_answer(dialect: EmbeddingOutbound, body: dict[str, Any], fault: int) -> None:
    """By its own class."""
    with pytest.raises(MeshError) as caught:
        dialect.read_answer(json.dumps(body).encode())

    assert fault == caught.value.fault


SAMPLES = [
    {**BY_TYPE, "embeddings": {"float": [[0.5]]}},
    {"model": "m", "embeddings": [[0.5]], "prompt_eval_count": 4},
    {"output": {"embeddings": [{"embedding": [1], "text_index": 1}]}, "usage": {"total_tokens": 6}},
    {"data": [{"embedding": PACKED, "index": 0}], "usage": {"total_tokens": 7}, "model": "m"},
]


@settings(max_examples=200)
@given(st.sampled_from(sorted(EMBEDDINGS)), broken(SAMPLES) | VALUES)
def test_no_answer_breaks_a_dialect(name: str, value: Any) -> None:
    """Any JSON in any place gives vectors or an error of the vendor."""
    answer, error = attempt(lambda: EMBEDDINGS[name].read_answer(json.dumps(value).encode()))

    assert error is None or error.reason == errors_pb2.REASON_UPSTREAM
    assert answer is None or all(isinstance(number, float) for vector in answer[0] for number in vector)


@pytest.mark.parametrize(
    ("word", "purpose"),
    [("search_query", QUERY), ("RETRIEVAL_DOCUMENT", DOCUMENT), ("passage", DOCUMENT), ("clustering", "clustering")],
)
def test_words_for_a_purpose(word: str, purpose: str) -> None:
    """Two have a common word; the rest stay what they are."""
    assert purpose == purpose_of(word)
