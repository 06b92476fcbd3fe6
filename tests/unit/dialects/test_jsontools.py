"""JSON tools: nesting, doubled members, and changing single members."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import jsontools
from polyroute.mesh.errors import MeshError

NAMES = st.sampled_from(["model", "messages", "a", "é", 'quo"te', "back\\slash", "", "stream"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=6)


@st.composite
def written(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """An object and one of the many ways to write it."""
    value = draw(OBJECTS)
    indent = draw(st.sampled_from([None, 0, 2]))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :  ")]))
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=draw(st.booleans()))
    space = draw(st.sampled_from(["", " ", "\n\t"]))
    return value, (space + text + space).encode("utf-8", "replace")


@given(written())
def test_members_stand_where_the_scanner_says(case: tuple[dict[str, Any], bytes]) -> None:
    """Every member's place holds its value, and nothing is missed."""
    value, body = case

    found = {member.name: json.loads(body[member.value : member.end]) for member in jsontools.members(body)}

    assert len(value) == len(found)
    assert list(value.values()) == list(found.values())


# where a search's first window ends, and the next one begins
@given(st.integers(0, 9000), st.integers(0, 9000), st.sampled_from([b"x", b'"', b'x"', b" "]))
def test_a_name_is_found_wherever_it_stands(before: int, after: int, filling: bytes) -> None:
    """A search that steps over what holds no quotes misses nothing, and finds only what is there."""
    pattern = jsontools.quoted(frozenset({"user", "safety_identifier"}))
    body = (filling * before)[:before] + b"%b" + (filling * after)[:after]

    assert jsontools.holds(body.replace(b"%b", b'"safety_identifier"'), pattern)
    assert not jsontools.holds(body.replace(b"%b", b'"safety_identifie"'), pattern)


@given(written(), st.sets(st.sampled_from(["model", "a", "stream", "nothing"])), st.booleans())
def test_rewrite_changes_what_it_is_told_and_no_more(
    case: tuple[dict[str, Any], bytes], drop: set[str], change: bool
) -> None:
    """Members are set and dropped; every other value keeps its bytes."""
    value, body = case
    changes = {"model": b'"new"'} if change else {}

    changed = jsontools.rewrite(body, changes, drop - changes.keys())

    expected = {name: item for name, item in value.items() if name not in drop - changes.keys()}
    assert json.loads(changed) == expected | ({"model": "new"} if change else {})
    for member in jsontools.members(body):
        if member.name not in drop | changes.keys():
            assert body[member.start : member.end] in changed


@given(VALUES)
def test_depth_change_is_zero_over_a_whole_value(value: Any) -> None:
    """Brackets inside strings, escaped quotes and backslashes do not count."""
    assert jsontools.depth_change(json.dumps(value).encode()) == 0


@pytest.mark.parametrize(
    ("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('["}]\\"[",', "]"), ('{"[":1,"a":[', "]}")]
)
def test_nesting_is_bounded(opening: str, closing: str) -> None:
    """64 levels pass, 65 do not, whatever they are made of."""
    levels = jsontools.MAX_DEPTH // len(closing)

    jsontools.check_depth((opening * levels + "1" + closing * levels).encode())
    with pytest.raises(MeshError) as caught:
        jsontools.check_depth(("[" + opening * levels + "1" + closing * levels + "]").encode())

    assert caught.value.reason == errors_pb2.REASON_INVALID_REQUEST


def test_breadth_is_no_depth() -> None:
    """Thousands of lists beside each other are fine; brackets in text are nothing."""
    jsontools.check_depth(b"[" + b",".join([b'[{"a":"[[[[\\"[[{"}]'] * 5000) + b"]")


def test_a_flood_of_brackets_is_refused_quickly() -> None:
    """More lists than any request has are refused without walking them."""
    flood = b"[" + b",".join([b"[]"] * (jsontools.MAX_BRACKETS + 1)) + b"]"

    with pytest.raises(MeshError):
        jsontools.check_depth(flood)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","x":1,"mod\\u0065l":"b"}',
        b'{"mod\\u0065l":"b"}',
        b'{"stream":true,"stream":false}',
        b'{"messages":[],"messages":[]}',
    ],
)
def test_doubled_or_disguised_members_are_refused(body: bytes) -> None:
    """What policy reads must stand once and under its plain name."""
    with pytest.raises(MeshError) as caught:
        jsontools.check_once(body)

    assert caught.value.metadata["param"] in ("model", "stream", "messages")


@pytest.mark.parametrize(
    "name",
    [
        "prompt",
        "input",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "n",
        "stop",
        "previous_response_id",
    ],
)
def test_what_bounds_a_call_must_stand_once(name: str) -> None:
    """Money is held for what is read here; the vendor must not read another figure."""
    with pytest.raises(MeshError) as caught:
        jsontools.check_once(f'{{"{name}":1,"x":{{"{name}":2}},"{name}":3}}'.encode())

    assert name == caught.value.metadata["param"]
    jsontools.check_once(f'{{"{name}":1,"x":{{"{name}":2}}}}'.encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","tools":[{"model":"b"}],"x":"\\"model\\":"}',
        b'{"model":"model","x":"model"}',
        b'{"model":"a","x":"\\u0065"}',
        b'{"model":"a","other":1,"other":2}',
    ],
)
def test_the_same_name_elsewhere_is_no_double(body: bytes) -> None:
    """Nested members, text and values may have any name."""
    jsontools.check_once(body)


def test_a_complaint_names_the_member() -> None:
    """The parser's words become a refusal with the member's path."""
    with pytest.raises(MeshError) as caught:
        jsontools.members_of(b"[]")

    assert caught.value.reason == errors_pb2.REASON_INVALID_REQUEST
    assert caught.value.message == "expected `object`, got `array`"
