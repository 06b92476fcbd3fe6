"""What is read of a request at the door, and what is refused there."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import openai_chat, openai_completions
from polyroute.mesh.errors import MeshError

CHAT = openai_chat.DIALECT
MESSAGES = [{"role": "user", "content": "Hello"}]


def body(**members: Any) -> bytes:
    """A request with these members beside the usual ones; None takes one away."""
    value = {"model": "m", "messages": MESSAGES, **members}
    return json.dumps({name: item for name, item in value.items() if item is not None}).encode()


def test_the_plain_facts() -> None:
    """Operation, model, streaming, bounds and number of answers."""
    facts = CHAT.read_facts(
        body(stream=True, stream_options={"include_usage": True}, max_completion_tokens=7, max_tokens=9, n=3)
    )

    expected = pb.RequestFacts(
        operation=pb.OPERATION_CHAT,
        model="m",
        stream=True,
        stream_usage=True,
        input_tokens_estimate=facts.input_tokens_estimate,
        max_output_tokens=7,
        choices=3,
    )
    assert expected == facts


def test_nothing_said_is_nothing_set() -> None:
    """Absent members are unset, not zero."""
    facts = CHAT.read_facts(body())

    assert not facts.HasField("max_output_tokens")
    assert (facts.stream, facts.stream_usage, facts.choices, list(facts.needs)) == (False, False, 0, [])


def part(kind: str, **inner: Any) -> list[dict[str, Any]]:
    """Messages with one part of a kind."""
    return [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": kind, kind: inner}]}]


@pytest.mark.parametrize(
    ("members", "needs"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, [pb.CAPABILITY_TOOLS]),
        ({"functions": [{"name": "f"}]}, [pb.CAPABILITY_TOOLS]),
        ({"tools": []}, []),
        ({"messages": part("image_url", url="https://example.org/a.png")}, [pb.CAPABILITY_VISION]),
        ({"messages": part("input_audio", data="AAAA", format="wav")}, [pb.CAPABILITY_AUDIO_INPUT]),
        ({"messages": part("file", file_id="f")}, [pb.CAPABILITY_FILES]),
        ({"messages": part("file_url", url="https://example.org/a.pdf")}, [pb.CAPABILITY_FILES]),
        ({"response_format": {"type": "json_object"}}, [pb.CAPABILITY_JSON_OBJECT]),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, [pb.CAPABILITY_JSON_SCHEMA]),
        ({"response_format": {"type": "text"}}, []),
        ({"modalities": ["text", "audio"]}, [pb.CAPABILITY_AUDIO_OUTPUT]),
        ({"logprobs": True}, [pb.CAPABILITY_LOGPROBS]),
        ({"reasoning_effort": "low"}, [pb.CAPABILITY_REASONING]),
        ({"reasoning_effort": "none"}, []),
        ({"reasoning": {"enabled": True}}, [pb.CAPABILITY_REASONING]),
        ({"logprobs": True, "tools": [{}]}, [pb.CAPABILITY_TOOLS, pb.CAPABILITY_LOGPROBS]),
    ],
)
def test_needs(members: dict[str, Any], needs: list[int]) -> None:
    """What the deployment must be able to do is read from the body."""
    assert needs == list(CHAT.read_facts(body(**members)).needs)


def test_a_picture_with_an_empty_text_is_still_one() -> None:
    """Some clients write every member of a part, the unused ones empty."""
    content = [{"type": "image_url", "text": "", "image_url": {"url": "https://example.org/a.png"}}]

    assert [pb.CAPABILITY_VISION] == CHAT.read_facts(body(messages=[{"role": "user", "content": content}])).needs


def test_the_estimate_counts_words_and_not_data() -> None:
    """About four bytes a token; a picture has one price however large it is; tools and arguments count."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "x" * 4000}}

    plain = CHAT.read_facts(body(messages=[{"role": "user", "content": "x" * 4000}])).input_tokens_estimate
    chinese = CHAT.read_facts(body(messages=[{"role": "user", "content": "字" * 1000}])).input_tokens_estimate
    seen = CHAT.read_facts(body(messages=[{"role": "user", "content": [picture]}])).input_tokens_estimate
    called = CHAT.read_facts(body(messages=[{"role": "assistant", "tool_calls": [call]}])).input_tokens_estimate
    tools = CHAT.read_facts(body(tools=[{"type": "function", "function": {"name": "f", "x": "y" * 4000}}]))

    assert 1000 <= plain <= 1010
    assert 750 <= chinese <= 760
    assert 85 <= seen <= 95
    assert 1000 <= called <= 1010
    assert 1000 <= tools.input_tokens_estimate <= 1030


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"", ""),
        (b"not json", ""),
        (b"[]", ""),
        (b'"text"', ""),
        (b'{"model":"m"', ""),
        (b'{"model":"m","messages":[{"role":"user","content":"a"}],"x":NaN}', ""),
        (b'{"model":"m","messages":[{"role":"user","content":"a"}],"x":Infinity}', ""),
        (b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}', ""),
        (b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}', ""),
        (b'{"model":"m","messages":[{"role":"user","content":"a"}],"x":"\xff"}', ""),
        (b'{"model":"m","messages":[{"role":"user","content":"a","x":"\xff"}]}', ""),
        (b'\xef\xbb\xbf{"model":"m","messages":[{"role":"user","content":"a"}]}', ""),
        (b'{"model":"m","model":"n","messages":[{"role":"user","content":"a"}]}', "model"),
        (b'{"model":"m","messages":[{"role":"user","content":"a"}],"messages":[{"role":"user"}]}', "messages"),
        (b'{"stream":true,"model":"m","messages":[{"role":"user","content":"a"}],"stream":false}', "stream"),
        (body(model=None), "model"),
        (body(model=""), "model"),
        (body(model=5), "model"),
        (body(model="m" * 300), "model"),
        (body(messages=None), "messages"),
        (body(messages=[]), "messages"),
        (body(messages="hello"), "messages"),
        (body(messages=[5]), "messages[0]"),
        (body(messages=[{"content": "a"}]), "messages[0]"),
        (body(messages=[{"role": "user", "content": 5}]), "messages[0].content"),
        (body(messages=[{"role": "user", "content": [{"type": "text", "text": 5}]}]), "messages[0].content[0].text"),
        (body(stream="yes"), "stream"),
        (body(max_tokens=-1), "max_tokens"),
        (body(max_tokens=10**12), "max_tokens"),
        (body(max_tokens=10**40), "max_tokens"),
        (body(max_completion_tokens=-5), "max_completion_tokens"),
        (body(max_tokens="many"), "max_tokens"),
        (body(n=0), "n"),
        (body(n=129), "n"),
        (body(n=10**9), "n"),
        (body(stop=["x"] * 10_000), "stop"),
        (body(temperature="hot"), "temperature"),
        (body(tools={}), "tools"),
    ],
)
def test_bad_bodies_are_refused_by_name(raw: bytes, param: str) -> None:
    """What two parsers may read differently, or no vendor can take, is refused at the door."""
    with pytest.raises(MeshError) as caught:
        CHAT.read_facts(raw)

    assert caught.value.reason == errors_pb2.REASON_INVALID_REQUEST
    assert param == caught.value.metadata.get("param", "")
    assert caught.value.message[:1].islower()


@pytest.mark.parametrize(
    "place",
    [
        '"x":%s',
        '"tools":[{"type":"function","function":{"name":"f","parameters":%s}}]',
        '"messages":[{"role":"user","content":"a","x":%s}]',
        '"messages":[{"role":"user","content":[{"type":"image_url","image_url":%s}]}]',
        '"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":%s}}]}]',
    ],
)
@pytest.mark.parametrize(("depth", "good"), [(40, True), (70, False), (100_000, False)])
def test_nesting_is_bounded_everywhere(place: str, depth: int, good: bool) -> None:
    """Deep values are refused wherever a parser would skip over them."""
    inner = "[" * depth + "]" * depth
    rest = '"model":"m"' if '"messages"' in place else '"model":"m","messages":[{"role":"user","content":"a"}]'
    raw = ("{" + rest + "," + place % inner + "}").encode()

    if good:
        assert CHAT.read_facts(raw).model == "m"
    else:
        with pytest.raises(MeshError):
            CHAT.read_facts(raw)


def test_unknown_members_are_fine() -> None:
    """What a vendor adds tomorrow passes, at every level."""
    raw = body(
        tomorrow={"a": [1]},
        messages=[{"role": "user", "content": [{"type": "hologram", "hologram": {"x": 1}}], "mood": {"x": [1]}}],
    )

    assert CHAT.read_facts(raw).model == "m"


def test_the_model_may_be_assumed() -> None:
    """A path or a setting may name the model that the body does not."""
    assert CHAT.read_facts(body(model=None), default_model="assumed").model == "assumed"
    assert CHAT.read_facts(body(), default_model="assumed").model == "m"


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """No input raises anything but a refusal."""
    for dialect in (CHAT, openai_completions.DIALECT):
        with pytest.raises(MeshError) as caught:
            dialect.read_facts(raw)
        assert caught.value.reason == errors_pb2.REASON_INVALID_REQUEST


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "role"]), inner),
    max_leaves=6,
)
MEMBERS = ["model", "messages", "stream", "stream_options", "n", "stop", "tools", "max_tokens", "response_format"]


@given(st.dictionaries(st.sampled_from([*MEMBERS, "prompt", "tool_choice", "reasoning", "metadata"]), JSON))
def test_any_object_is_read_or_refused(value: dict[str, Any]) -> None:
    """Members of any type are read or refused, at the door and by the typed form."""
    raw = json.dumps(value).encode()
    for dialect in (CHAT, openai_completions.DIALECT):
        for read in (dialect.read_facts, dialect.read_request):
            try:
                read(raw)
            except MeshError as error:
                refused = error.reason
            else:
                refused = errors_pb2.REASON_INVALID_REQUEST
            assert refused == errors_pb2.REASON_INVALID_REQUEST
