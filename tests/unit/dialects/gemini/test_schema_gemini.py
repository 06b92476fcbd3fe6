"""JSON Schema into this API's own `Schema`, and back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.gemini.schema import from_json_schema, to_json_schema
from polyroute.mesh.errors import MeshError
from tests.outbound import VALUES, attempt

READ = [
    ({"type": "STRING", "nullable": True}, {"type": ["string", "null"]}),
    ({"type": "STRING", "format": "enum", "enum": ["a", "b"]}, {"type": "string", "enum": ["a", "b"]}),
    ({"type": "TYPE_UNSPECIFIED", "any_of": [{"type": "INTEGER"}]}, {"anyOf": [{"type": "integer"}]}),
    (
        {"type": "ARRAY", "minItems": "1", "items": {"type": "NUMBER"}},
        {"type": "array", "minItems": 1, "items": {"type": "number"}},
    ),
    (
        {"type": "OBJECT", "properties": {"type": {"type": "STRING"}}},
        {"type": "object", "properties": {"type": {"type": "string"}}},
    ),
]
WRITTEN = [
    ({"type": ["string", "null"]}, {"type": "STRING", "nullable": True}),
    ({"type": ["string", "integer"]}, {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]}),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "STRING", "nullable": True}),
    ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]}),
    ({"const": "a"}, {"type": "STRING", "format": "enum", "enum": ["a"]}),
    ({"type": "integer", "enum": [1, 2]}, {"type": "INTEGER"}),
    ({"type": "string", "format": "email", "$schema": "x", "default": "y"}, {"type": "STRING", "default": "y"}),
    (
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/A"}},
            "$defs": {"A": {"type": "integer", "title": "A"}},
        },
        {"type": "OBJECT", "properties": {"a": {"type": "INTEGER", "title": "A"}}},
    ),
    (
        {
            "allOf": [
                {"type": "object", "properties": {"a": {}}, "required": ["a"]},
                {"properties": {"b": {}}, "required": ["b"]},
            ]
        },
        {"type": "OBJECT", "properties": {"a": {}, "b": {}}, "required": ["a", "b"]},
    ),
    (
        {"type": "object", "additionalProperties": False, "properties": {"a": True}},
        {"type": "OBJECT", "properties": {"a": {}}},
    ),
]


@pytest.mark.parametrize(("schema", "expected"), READ)
def test_a_schema_is_read(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    """Types in small letters, null as a type, figures as figures; names of members are nobody's keywords."""
    assert expected == to_json_schema(schema)


def test_the_order_of_members_is_kept() -> None:
    """The order that a schema asks for is the order in which its members stand."""
    schema = {"type": "OBJECT", "propertyOrdering": ["b", "a"], "properties": {"a": {}, "c": {}, "b": {}}}

    assert ["b", "a", "c"] == list(to_json_schema(schema)["properties"])


@pytest.mark.parametrize(("schema", "expected"), WRITTEN)
def test_a_schema_is_written(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    """References written out, unions as alternatives, hints that cannot be expressed left away."""
    assert expected == from_json_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {
            "$ref": "#/$defs/Tree",
            "$defs": {"Tree": {"type": "object", "properties": {"child": {"$ref": "#/$defs/Tree"}}}},
        },
        {"$ref": "#/$defs/Missing"},
        {"$ref": "https://example.org/schema"},
    ],
)
def test_what_cannot_be_written(schema: dict[str, Any]) -> None:
    """A schema that refers to itself or to nothing: another deployment may take it."""
    with pytest.raises(MeshError) as caught:
        from_json_schema(schema)

    assert errors_pb2.FAULT_UNSUPPORTED == caught.value.fault


def test_references_do_not_multiply() -> None:
    """A small schema that would be an enormous one without references is refused."""
    twice = {f"S{number}": {"anyOf": [{"$ref": f"#/$defs/S{number + 1}"}] * 2 + [{}]} for number in range(30)}
    schema = {"$ref": "#/$defs/S0", "$defs": {**twice, "S30": {"type": "string"}}}

    with pytest.raises(MeshError, match="too large"):
        from_json_schema(schema)


KEYWORDS = st.sampled_from(
    ["type", "properties", "items", "anyOf", "allOf", "enum", "$ref", "$defs", "nullable", "const"]
)
SCHEMAS = st.recursive(
    st.dictionaries(KEYWORDS, VALUES, max_size=4),
    lambda inner: st.dictionaries(KEYWORDS, inner | st.lists(inner, max_size=2), max_size=4),
)


@given(SCHEMAS)
def test_any_schema_is_written_or_refused(schema: dict[str, Any]) -> None:
    """Whatever stands in it."""
    to_json_schema(schema)
    _, error = attempt(lambda: from_json_schema(schema))

    assert error is None or error.fault == errors_pb2.FAULT_UNSUPPORTED
