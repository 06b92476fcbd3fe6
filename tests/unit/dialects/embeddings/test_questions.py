"""A client's request for vectors, for a vendor of another dialect."""

import json
from typing import Any

import pytest

from polyroute.dialects.embedding import QUERY
from polyroute.dialects.openai_embeddings import DIALECT
from polyroute.mesh.errors import MeshError


def body(**members: Any) -> bytes:
    """A request with these members."""
    return json.dumps({"model": "m", **members}).encode()


@pytest.mark.parametrize(
    ("given", "texts", "tokens"),
    [
        ("a", ["a"], []),
        (["a", "b"], ["a", "b"], []),
        ([1, 2], [], [[1, 2]]),
        ([[1, 2], [3]], [], [[1, 2], [3]]),
    ],
)
def test_every_form_of_input(given: object, texts: list[str], tokens: list[list[int]]) -> None:
    """Texts, or token ids, one or several."""
    question = DIALECT.read_request(body(input=given))

    assert (texts, tokens) == (question.texts, question.tokens)


def test_what_is_asked_beside() -> None:
    """Length, encoding and purpose; the rest as it is."""
    question = DIALECT.read_request(
        body(input="a", dimensions=8, encoding_format="base64", input_type="search_query", user="u")
    )

    assert (8, QUERY, True, {"user": b'"u"'}) == question[2:]


@pytest.mark.parametrize("task", ["retrieval.query", 3, None])
def test_the_other_name_of_a_purpose(task: object) -> None:
    """Only words count."""
    assert (QUERY if isinstance(task, str) else "") == DIALECT.read_request(body(input="a", task=task)).input_type


def test_an_untrusted_request_is_checked() -> None:
    """As at the door."""
    with pytest.raises(MeshError) as caught:
        DIALECT.read_request(body(input=["a", 1]))

    assert "input" == caught.value.metadata["param"]
