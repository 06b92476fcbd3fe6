"""The pass-through of a request changes what it must and not a byte more."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.dialects import openai_chat

CHAT = openai_chat.DIALECT
MESSAGES = b'"messages": [ {"role":"user","content":"say \\"model\\": \\"x\\" \\u00e9"} ]'


def patched(body: bytes, *, ask_usage: bool = False, drop: frozenset[str] = frozenset(), model: str = "up") -> bytes:
    """The body for a vendor."""
    facts = CHAT.read_facts(body, default_model="assumed")
    return CHAT.patch_request(body, facts, model=model, ask_usage=ask_usage, drop=drop)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"model":"m",%s}', b'{"model":"up",%s}'),
        (b'{%s,"model":"m"}', b'{%s,"model":"up"}'),
        (b'{ %s,\n "model" : "m" , "temperature":0.10e1 }', b'{ %s,\n "model" : "up" , "temperature":0.10e1 }'),
        (b'{"metadata":{"model":"m"},%s,"model":"m"}', b'{"metadata":{"model":"m"},%s,"model":"up"}'),
        (b'{"model":"m",%s,"metadata":{"model":"m"}}', b'{"model":"up",%s,"metadata":{"model":"m"}}'),
        (b'{"x":"\\"model","model":"m",%s}', b'{"x":"\\"model","model":"up",%s}'),
        (b'{"x":"model","model":"m\\u0022",%s}', b'{"x":"model","model":"up",%s}'),
        (b'{"x":{"y\\"model":"z"},"model":"m",%s}', b'{"x":{"y\\"model":"z"},"model":"up",%s}'),
        (b"{%s}", b'{"model":"up",%s}'),
        (b'{"metadata":{"model":"assumed"},%s}', b'{"model":"up","metadata":{"model":"assumed"},%s}'),
    ],
)
def test_only_the_model_changes(before: bytes, after: bytes) -> None:
    """White space, number formats, escapes, order and members of the same name elsewhere stay."""
    assert after.replace(b"%s", MESSAGES) == patched(before.replace(b"%s", MESSAGES))


def test_the_model_is_written_as_json() -> None:
    """A name with quotes cannot break out."""
    body = b'{"model":"m",' + MESSAGES + b"}"

    assert json.loads(patched(body, model='a","x":"'))["model"] == 'a","x":"'


@pytest.mark.parametrize(
    ("options", "stream", "ask", "expected"),
    [
        (None, True, True, {"include_usage": True}),
        (None, True, False, None),
        (None, False, True, None),
        ({}, True, True, {"include_usage": True}),
        ({"include_usage": False}, True, True, {"include_usage": True}),
        ({"include_obfuscation": False}, True, True, {"include_usage": True, "include_obfuscation": False}),
        ({"include_usage": True, "x": 1}, True, True, {"include_usage": True, "x": 1}),
        ({"x": 1}, True, False, {"x": 1}),
    ],
)
def test_usage_is_asked_for_in_streams(
    options: dict[str, Any] | None, stream: bool, ask: bool, expected: dict[str, Any] | None
) -> None:
    """`include_usage` is set where the client streams and did not ask, keeping its other options."""
    value: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "a"}], "stream": stream}
    if options is not None:
        value["stream_options"] = options

    sent = json.loads(patched(json.dumps(value).encode(), ask_usage=ask))

    assert expected == sent.pop("stream_options", None)
    assert {name: item for name, item in value.items() if name != "stream_options"} | {"model": "up"} == sent


def test_null_options_are_replaced() -> None:
    """`stream_options: null` leaves usage to us."""
    body = b'{"model":"m","stream":true,"stream_options":null,' + MESSAGES + b"}"

    assert json.loads(patched(body, ask_usage=True))["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"a":1, "model":"m", %s}', b'{"model":"up", %s}'),
        (b'{"model":"m", "a":{"b":[1]}, %s}', b'{"model":"up", %s}'),
        (b'{"model":"m", %s, "a":1}', b'{"model":"up", %s}'),
        (b'{"b":2, "model":"m", %s , "a":1, "b":3 }', b'{"model":"up", %s }'),
        (b'{"c":{"a":1}, "model":"m", %s}', b'{"c":{"a":1}, "model":"up", %s}'),
    ],
)
def test_members_can_be_dropped(before: bytes, after: bytes) -> None:
    """Dropped members go with their separator; nested ones of the same name stay."""
    sent = patched(before.replace(b"%s", MESSAGES), drop=frozenset({"a", "b", "nothing"}))

    assert after.replace(b"%s", MESSAGES) == sent


NAMES = st.sampled_from(["model", "x", "metadata", "tools", "stream_options", "user"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='model":\\{}[],é ', max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["x", "metadata", "user", "extra"]), VALUES, max_size=4),
    st.permutations(["model", "messages", "stream", "rest"]),
    st.text(max_size=20),
    st.booleans(),
    st.sampled_from([None, 1]),
    st.sets(st.sampled_from(["x", "user"])),
    st.integers(0, 3),
)
def test_patching_any_request_changes_nothing_else(
    rest: dict[str, Any], order: list[str], text: str, ask: bool, indent: int | None, drop: set[str], size: int
) -> None:
    """Whatever the client wrote, in any order and size, only the model, usage and the dropped members differ."""
    known = {
        "model": "m",
        "messages": [{"role": "user", "content": text + "y" * (40_000 * size)}],
        "stream": True,
    }
    value: dict[str, Any] = {}
    for name in order:
        value |= rest if name == "rest" else {name: known[name]}
    body = json.dumps(value, indent=indent).encode("utf-8", "replace")

    sent = patched(body, ask_usage=ask, drop=frozenset(drop))

    expected = {name: item for name, item in json.loads(body).items() if name not in drop} | {"model": "up"}
    if ask:
        expected["stream_options"] = {"include_usage": True}
    assert expected == json.loads(sent)
