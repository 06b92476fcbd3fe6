"""What a body says to Polyroute itself never reaches a vendor."""

import pytest

from polyroute.api.chat.v1.chat_pb2 import ChatRequest, RequestFacts
from polyroute.edge.wishes import hints, taken, typed_hints
from polyroute.mesh.errors import MeshError


def test_a_body_without_wishes_is_the_same_bytes() -> None:
    """Also when the words occur in what is said."""
    body = b'{"model":"m","messages":[{"role":"user","content":"the \\"provider\\" of \\"models\\""}]}'
    nested = b'{"model":"m","metadata":{"provider":"x","region":"y"}}'

    assert body is taken(body).body
    assert (nested, None) == taken(nested)[:2]


def test_wishes_are_taken_out() -> None:
    """Every other byte stays."""
    wishes = taken(b'{ "model":"m", "provider":{"only":["east"]},"region":"eu", "max_latency_ms":1500,"x": 1.0 }')

    assert b'{ "model":"m","x": 1.0 }' == wishes.body or b'{ "model":"m", "x": 1.0 }' == wishes.body
    assert wishes.preferences is not None
    assert ["east"] == list(wishes.preferences.only)
    assert ["eu"] == list(wishes.preferences.regions)
    assert 1500 == wishes.preferences.latency_milliseconds.max


def test_models_may_stand_instead_of_a_model() -> None:
    """The first is asked for, the others follow."""
    wishes = taken(b'{"models":["a","b"]}')

    assert "a" == wishes.model
    assert wishes.preferences is not None
    assert ["a", "b"] == list(wishes.preferences.models)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"region":5}', "region"),
        (b'{"region":""}', "region"),
        (b'{"max_latency_ms":"soon"}', "max_latency_ms"),
        (b'{"max_latency_ms":-1}', "max_latency_ms"),
        (b'{"max_latency_ms":true}', "max_latency_ms"),
        (b'{"provider":{"onlyy":[]}}', "provider.onlyy"),
    ],
)
def test_what_cannot_be_meant_is_refused(body: bytes, param: str) -> None:
    """By the name of the member."""
    with pytest.raises(MeshError) as refused:
        taken(body)

    assert param == refused.value.metadata["param"]


def test_only_a_model_that_is_chosen_by_content_needs_hints() -> None:
    """Code is told by more than one of its marks."""
    body = b'{"messages":[{"role":"user","content":"```\\ndef f(): pass\\n```"}]}'
    found = hints(body, RequestFacts(model="auto:quality_first"))

    assert None is hints(body, RequestFacts(model="automatic"))
    assert found is not None
    assert (True, 1) == (found.code, found.messages)


@pytest.mark.parametrize(("word", "expected"), [("", 0), ("low", 1), ("Normal", 2), ("high", 3)])
def test_urgency_of_a_call_whose_model_is_to_be_chosen(word: str, expected: int) -> None:
    """By its header; both doors read it alike."""
    facts = RequestFacts(model="auto:quality_first")
    typed = typed_hints(ChatRequest(), facts, word)
    read = hints(b"{}", facts, word)

    assert typed is not None
    assert read is not None
    assert (expected, expected) == (read.urgency, typed.urgency)


def test_urgency_that_is_none() -> None:
    """It is said, and not taken for normal."""
    with pytest.raises(MeshError) as caught:
        hints(b"{}", RequestFacts(model="auto"), "urgent")

    assert "x-polyroute-urgency must be low, normal or high, not 'urgent'" == caught.value.message


def test_what_a_typed_conversation_looks_like() -> None:
    """The same as is read from a body."""
    chat = ChatRequest(
        messages=[{"role": "ROLE_USER", "parts": [{"text": {"text": "```\ndef f(): pass"}}]}],  # type: ignore[list-item] # dicts will do
        tools=[{}, {}],  # type: ignore[list-item] # the same
    )
    found = typed_hints(chat, RequestFacts(model="auto"))

    assert found is not None
    assert (True, 2, 1) == (found.code, found.tools, found.messages)
