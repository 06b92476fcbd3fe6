"""What is sent for vectors and what the caller gets, for every pair of a caller's and a vendor's dialect."""

import base64
import json
import struct
from typing import Any

import pytest

from polyroute.api.chat.v1.chat_pb2 import EncodedRequest, RequestFacts
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.providers.v1.providers_pb2 import EmbedInput, EmbedRequest, Target
from polyroute.dialects.embedding_registry import EMBEDDINGS
from polyroute.mesh.errors import MeshError
from polyroute.providers.embedding import Answer, question

TARGET = Target(deployment="d", provider="p", upstream_model="up")
ANSWERS: dict[str, dict[str, Any]] = {
    "openai.embeddings": {"data": [{"embedding": [0.5, -2]}], "usage": {"prompt_tokens": 3}},
    "cohere.embed": {"embeddings": {"float": [[0.5, -2]]}, "meta": {"billed_units": {"input_tokens": 3}}},
    "dashscope.embed": {"output": {"embeddings": [{"embedding": [0.5, -2]}]}, "usage": {"total_tokens": 3}},
    "jina.embed": {"data": [{"embedding": [0.5, -2]}], "usage": {"total_tokens": 3}},
    "ollama.embed": {"embeddings": [[0.5, -2]], "prompt_eval_count": 3},
    "voyage.embed": {"data": [{"embedding": [0.5, -2]}], "usage": {"total_tokens": 3}},
}
every_vendor = pytest.mark.parametrize("name", ANSWERS)


def encoded(**members: Any) -> EmbedRequest:
    """A client's request."""
    body = json.dumps({"model": "m", "input": "a", **members}).encode()
    return EmbedRequest(
        target=TARGET,
        encoded=EncodedRequest(dialect="openai.embeddings", body=body),
        facts=RequestFacts(model="m"),
    )


def answer(value: dict[str, Any], **headers: str) -> Answer:
    """A vendor's answer."""
    return Answer(json.dumps(value).encode(), {name.replace("_", "-"): said for name, said in headers.items()})


@every_vendor
@pytest.mark.parametrize("form", ["float", "base64"])
def test_a_client_gets_what_it_asked_for(name: str, form: str) -> None:
    """Its own dialect, its own encoding, and usage, whatever the vendor speaks."""
    asked = question(encoded(encoding_format=form, dimensions=2), EMBEDDINGS[name])

    response = asked.response([answer(ANSWERS[name])])

    packed = base64.b64encode(struct.pack("<2f", 0.5, -2)).decode()
    assert (packed if form == "base64" else [0.5, -2]) == json.loads(response.encoded)["data"][0]["embedding"]
    assert 3 == response.usage.input_tokens
    assert "up" == json.loads(asked.bodies[0])["model"]
    assert b"2" in asked.bodies[0]


@every_vendor
def test_a_typed_caller_gets_vectors(name: str) -> None:
    """As contract messages."""
    given = EmbedInput(texts=["a"], dimensions=2)
    asked = question(EmbedRequest(target=TARGET, input=given, facts=RequestFacts(model="m")), EMBEDDINGS[name])

    response = asked.response([answer(ANSWERS[name])])

    assert [0.5, -2] == list(response.embeddings[0].values)
    assert b"2" in asked.bodies[0]


def test_the_same_dialect_passes_the_bytes() -> None:
    """White space, unknown members and token ids stay; only the model changes."""
    raw = b'{ "input" : [[1, 2],[ 3]], "model":"m", "x": 1 }'
    request = encoded()
    request.encoded.body = raw

    assert raw.replace(b'"m"', b'"up"') == question(request, EMBEDDINGS["openai.embeddings"]).bodies[0]


@pytest.mark.parametrize("name", [name for name in ANSWERS if name != "openai.embeddings"])
def test_token_ids_are_for_one_vocabulary(name: str) -> None:
    """Another deployment may take them."""
    with pytest.raises(MeshError) as caught:
        question(encoded(input=[[1, 2]]), EMBEDDINGS[name])

    assert (errors_pb2.FAULT_UNSUPPORTED, "input") == (caught.value.fault, caught.value.metadata["param"])


def test_what_texts_are_for_is_translated() -> None:
    """In the vendor's words."""
    asked = question(encoded(input_type="query"), EMBEDDINGS["cohere.embed"])

    assert "search_query" == json.loads(asked.bodies[0])["input_type"]


@pytest.mark.parametrize(("insists", "members"), [(True, {"input_type": "query"}), (True, {"user": "u"}), (False, {})])
def test_a_caller_may_insist_on_its_parameters(insists: bool, members: dict[str, Any]) -> None:
    """Then nothing is left out in silence."""
    request = encoded(**members)
    request.facts.require_parameters = insists
    if not members:
        assert question(request, EMBEDDINGS["ollama.embed"])
        return

    with pytest.raises(MeshError) as caught:
        question(request, EMBEDDINGS["ollama.embed"])

    assert (errors_pb2.FAULT_UNSUPPORTED, *members) == (caught.value.fault, caught.value.metadata["param"])


@pytest.mark.parametrize("typed", [True, False])
def test_a_vector_a_text(typed: bool) -> None:
    """An answer with more or fewer is none."""
    request = encoded(input=["a", "b"])
    if typed:
        request.input.CopyFrom(EmbedInput(texts=["a", "b"]))
    asked = question(request, EMBEDDINGS["cohere.embed"])

    with pytest.raises(MeshError) as caught:
        asked.response([answer(ANSWERS["cohere.embed"])])

    assert errors_pb2.FAULT_BAD_ANSWER == caught.value.fault


def test_an_unknown_dialect_is_refused() -> None:
    """No caller can come with one but by a mistake of ours."""
    request = encoded()
    request.encoded.dialect = "x.y"

    with pytest.raises(MeshError) as caught:
        question(request, EMBEDDINGS["cohere.embed"])

    assert errors_pb2.FAULT_CLIENT == caught.value.fault


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize(("most", "sizes"), [(1, [1, 1, 1]), (2, [2, 1]), (3, [3]), (0, [3])])
def test_texts_that_are_too_many_for_one_request_become_several(typed: bool, most: int, sizes: list[int]) -> None:
    """Their vectors come back in the order of the texts, and what they used is added up."""
    request = encoded(input=["a", "b", "c"])
    if typed:
        request.input.CopyFrom(EmbedInput(texts=["a", "b", "c"]))
    asked = question(request, EMBEDDINGS["cohere.embed"], most)
    texts = [json.loads(body)["texts"] for body in asked.bodies]
    answers = [
        answer(
            {
                "embeddings": {"float": [[float(ord(text))] for text in some]},
                "meta": {"billed_units": {"input_tokens": 3, "images": 1}},
            }
        )
        for some in texts
    ]

    response = asked.response(answers)

    values = [[one.values[0] for one in response.embeddings], json.loads(response.encoded or b'{"data":[]}')["data"]]
    assert ["a", "b", "c"] == [text for some in texts for text in some]
    assert sizes == [len(some) for some in texts]
    assert [97, 98, 99] == (values[0] if typed else [entry["embedding"][0] for entry in values[1]])
    assert (3 * len(sizes), len(sizes)) == (response.usage.input_tokens, response.usage.other["input_images"])


def test_tokens_are_counted_by_a_header_or_by_us() -> None:
    """Where the body says nothing; ours are marked, and stand for the whole."""
    request = encoded(input=["a", "b"])
    request.facts.input_tokens_estimate = 9
    asked = question(request, EMBEDDINGS["cohere.embed"], 1)
    silent = {"embeddings": {"float": [[1.0]]}}

    told = asked.response([answer(silent, x_count="4"), answer(silent, x_count="5")], "x-count")
    half = asked.response([answer(silent, x_count="4"), answer(silent, x_count="many")], "x-count")

    assert (9, False) == (told.usage.input_tokens, told.usage.estimated)
    assert (9, True) == (half.usage.input_tokens, half.usage.estimated)
    assert {"prompt_tokens": 9, "total_tokens": 9} == json.loads(told.encoded)["usage"]
