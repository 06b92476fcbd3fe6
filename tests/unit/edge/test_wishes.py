"""What a body says to Polyroute itself never reaches a vendor."""

import pytest

from polyroute.api.chat.v1.chat_pb2 import ChatRequest, RequestFacts
from polyroute.dialects import multipart
from polyroute.dialects.multipart import Field
from polyroute.dialects.task import Body
from polyroute.edge.wishes import hints, taken, taken_of_form, typed_hints
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


@pytest.mark.parametrize("member", ["region", "max_latency_ms", "models", "provider"])
def test_a_number_beyond_all_bounds(member: str) -> None:
    """Is the caller's fault."""
    with pytest.raises(MeshError) as caught:
        taken(f'{{"model":"m","{member}":1e400}}'.encode())

    assert member == caught.value.metadata["param"]


FILE = Field("file", bytes(range(256)) * 9, "a.wav", "audio/wav")


@pytest.mark.parametrize(
    "fields",
    [
        [Field("provider", b'{"only":["east"],"zdr":true}'), Field("region", b"eu")],
        [Field("provider[only][]", b"east"), Field("provider[zdr]", b"true"), Field("region", b"eu")],
    ],
    ids=["json", "brackets"],
)
def test_wishes_are_taken_out_of_forms(fields: list[Field]) -> None:
    """Where clients write an object as JSON, or as OpenAI's do; files and the rest stay as they are."""
    form = multipart.write([Field("model", b"m"), *fields, FILE])
    wishes, kind = taken_of_form(form)

    assert [Field("model", b"m"), FILE] == multipart.read(Body(wishes.body, kind))
    assert wishes.preferences is not None
    assert (["east"], True, ["eu"]) == (
        list(wishes.preferences.only),
        wishes.preferences.zdr,
        list(wishes.preferences.regions),
    )


def test_a_form_without_wishes_is_the_same_bytes() -> None:
    """Also when a file speaks of them."""
    form = multipart.write([Field("model", b"m"), Field("file", b'name="provider"; models', "a.txt")])

    assert (form.data, form.content_type) == (taken_of_form(form)[0].body, taken_of_form(form)[1])


@pytest.mark.parametrize(
    "fields",
    [
        [Field("provider", b"east")],
        [Field("provider", b"east"), Field("provider[only][]", b"a")],
        [Field("provider[nothing]", b"a")],
        [Field("region", b"7")],
        [Field("models[a][b][]", b"m")],
    ],
)
def test_wishes_in_forms_that_are_none(fields: list[Field]) -> None:
    """Refused, and not lost."""
    with pytest.raises(MeshError):
        taken_of_form(multipart.write([Field("model", b"m"), *fields]))


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
