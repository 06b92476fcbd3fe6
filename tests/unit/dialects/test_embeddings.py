"""Vectors of texts, in numbers and in base64."""

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import openai_embeddings as embeddings
from polyroute.mesh.errors import MeshError

VECTORS = st.lists(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=6), min_size=1, max_size=4)
USAGE = pb.Usage(input_tokens=7)


def body(**members: Any) -> bytes:
    """A request with these members."""
    return json.dumps({"model": "m", "input": "Hello", **members}).encode()


@pytest.mark.parametrize(
    ("given_input", "tokens", "ids"),
    [("x" * 40, 10, False), (["x" * 20, "x" * 20], 10, False), ([1, 2, 3], 3, True), ([[1, 2], [3]], 3, True)],
)
def test_every_form_of_input_gives_facts(given_input: object, tokens: int, ids: bool) -> None:
    """Token ids need a deployment that takes them."""
    facts = embeddings.read_facts(body(input=given_input, dimensions=8, encoding_format="base64", user="u"))

    assert (pb.OPERATION_EMBEDDING, tokens, [pb.CAPABILITY_TOKEN_INPUT] if ids else []) == (
        facts.operation,
        facts.input_tokens_estimate,
        list(facts.needs),
    )


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": {}}, "input"),
        ({"model": None}, "model"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "8"}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_other_requests_are_refused_by_name(members: dict[str, Any], param: str) -> None:
    """Nothing, mixtures and unknown encodings."""
    with pytest.raises(MeshError) as caught:
        embeddings.read_facts(body(**members))

    assert param == caught.value.metadata["param"]


def test_patching_changes_the_model_alone() -> None:
    """White space and token ids stay as they were."""
    raw = b'{ "input" : [[1, 2],[ 3]], "model":"m" }'

    patched = embeddings.patch_request(raw, embeddings.read_facts(raw), "up")

    assert raw.replace(b'"m"', b'"up"') == patched


def test_texts_for_a_vendor_of_another_dialect() -> None:
    """Texts and the length wanted; token ids belong to one vocabulary and are refused."""
    assert embeddings.read_texts(body(input="a", dimensions=4)) == (["a"], 4)
    assert embeddings.read_texts(body(input=["a", "b"])) == (["a", "b"], None)
    with pytest.raises(MeshError):
        embeddings.read_texts(body(input=[[1]]))


def test_a_request_asks_for_the_small_encoding() -> None:
    """Typed requests get base64."""
    written = json.loads(embeddings.write_request(["a", "b"], model="up", dimensions=4))

    assert {"model": "up", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 4} == written


@given(VECTORS, st.booleans())
def test_vectors_survive_both_encodings(vectors: list[list[float]], packed: bool) -> None:
    """32-bit components are the same in numbers and in base64."""
    answer = embeddings.write_answer(vectors, USAGE, "m", base64=packed)

    assert (vectors, USAGE, "m") == embeddings.read_answer(answer)


@given(VECTORS, st.booleans(), st.booleans())
def test_the_encoding_is_what_the_client_asked_for(vectors: list[list[float]], came: bool, wanted: bool) -> None:
    """The right one passes byte for byte; the other is converted, whatever else the vendor says stays."""
    answer = embeddings.write_answer(vectors, USAGE, "m", base64=came)

    fixed, usage, count = embeddings.fix_encoding(answer, base64=wanted)

    assert (USAGE, len(vectors)) == (usage, count)
    assert fixed == answer or came != wanted
    assert all(isinstance(item["embedding"], str) == wanted for item in json.loads(fixed)["data"])
    assert embeddings.read_answer(fixed)[0] == vectors


def test_base64_is_little_endian_float32() -> None:
    """The layout that client libraries unpack."""
    answer = json.loads(embeddings.write_answer([[0.5, -2.0]], USAGE, "m", base64=True))

    assert base64.b64encode(struct.pack("<2f", 0.5, -2.0)).decode() == answer["data"][0]["embedding"]
    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}


def test_an_unknown_encoding_passes_and_is_not_guessed() -> None:
    """Components of one byte look like no floats: they pass to who asked, and are no typed vectors."""
    raw = json.dumps({"data": [{"embedding": base64.b64encode(b"\x01\x7f\xff").decode()}], "model": "m"}).encode()

    assert embeddings.fix_encoding(raw, base64=False) == (raw, pb.Usage(), 1)
    with pytest.raises(MeshError) as caught:
        embeddings.read_answer(raw)
    assert caught.value.fault == errors_pb2.FAULT_BAD_ANSWER


def test_vectors_come_in_the_order_of_the_texts() -> None:
    """By their index, not their place."""
    data = [{"index": 1, "embedding": [1.0]}, {"index": 0, "embedding": [0.0]}]

    assert embeddings.read_answer(json.dumps({"data": data}).encode())[0] == [[0.0], [1.0]]


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", errors_pb2.FAULT_BAD_ANSWER),
        (b"<html>", errors_pb2.FAULT_BAD_ANSWER),
        (b'{"data":[]}', errors_pb2.FAULT_BAD_ANSWER),
        (b'{"data":[{}]}', errors_pb2.FAULT_BAD_ANSWER),
        (b'{"data":[{"embedding":["a"]}]}', errors_pb2.FAULT_BAD_ANSWER),
        (b'{"error":{"message":"x","code":429}}', errors_pb2.FAULT_RATE),
    ],
)
def test_what_is_no_answer(raw: bytes, fault: int) -> None:
    """Errors under a 200 have their own class."""
    with pytest.raises(MeshError) as caught:
        embeddings.read_answer(raw)

    assert fault == caught.value.fault


def test_whether_the_client_wants_base64() -> None:
    """Only when it says so."""
    assert embeddings.wants_base64(body(encoding_format="base64"))
    assert not embeddings.wants_base64(body(encoding_format="float"))
    assert not embeddings.wants_base64(body())
