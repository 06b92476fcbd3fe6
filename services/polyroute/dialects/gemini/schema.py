"""JSON Schema and this API's own `Schema` object, either way.

`Schema` (https://ai.google.dev/api/caching#Schema) is the part of OpenAPI 3.0 that the vendor reads: types in capitals,
`nullable`, no references. Vendors of today take plain JSON Schema beside it; older deployments take only `Schema`.
"""

from collections.abc import Mapping
from typing import Any, Final

from polyroute.dialects.asking import objects_in, unsupported
from polyroute.dialects.gemini.common import camel_name

MAX_DEPTH: Final = 64
MAX_SCHEMAS: Final = 10_000  # references to references multiply

_NUMBERS: Final = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
_SCHEMAS: Final = frozenset({"items", "additionalProperties", "not"})
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_NAMED: Final = frozenset({"properties", "$defs", "definitions", "defs"})
# What `Schema` holds as it is; everything else of a JSON Schema is a hint that it cannot express.
_KEPT: Final = _NUMBERS | {
    "title",
    "description",
    "enum",
    "required",
    "minimum",
    "maximum",
    "pattern",
    "default",
    "example",
    "propertyOrdering",
}
_FORMATS: Final = frozenset({"int32", "int64", "float", "double", "date-time", "enum"})


def to_json_schema(schema: Any, depth: int = 0) -> Any:
    """A `Schema` as JSON Schema; what is JSON Schema already stays as it is."""
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return schema
    value = {camel_name(name): item for name, item in schema.items()}
    out: dict[str, Any] = {}
    for name, item in value.items():
        if name == "type":
            kind = item.lower() if isinstance(item, str) else item
            if kind != "type_unspecified":
                out["type"] = kind
        elif name in _NUMBERS and isinstance(item, str) and item.isdecimal() and len(item) < 19:
            out[name] = int(item)
        elif not (name in ("nullable", "propertyOrdering") or (name == "format" and item == "enum")):
            out[name] = _inside(name, item, depth)
    _nullable(value, out)
    order = value.get("propertyOrdering")
    if isinstance(order, list) and isinstance(out.get("properties"), dict):
        out["properties"] = _ordered(out["properties"], order)
    return out


def _inside(name: str, item: Any, depth: int) -> Any:
    if name in _SCHEMAS:
        return to_json_schema(item, depth + 1)
    if name in _LISTS and isinstance(item, list):
        return [to_json_schema(one, depth + 1) for one in item]
    if name in _NAMED and isinstance(item, dict):
        return {key: to_json_schema(one, depth + 1) for key, one in item.items()}
    return item


def _nullable(value: Mapping[str, Any], out: dict[str, Any]) -> None:
    if value.get("nullable") is not True:
        return
    if isinstance(out.get("type"), str):
        out["type"] = [out["type"], "null"]
    elif isinstance(out.get("anyOf"), list):
        out["anyOf"] = [*out["anyOf"], {"type": "null"}]
    if isinstance(out.get("enum"), list) and None not in out["enum"]:
        out["enum"] = [*out["enum"], None]


def _ordered(properties: dict[str, Any], order: list[Any]) -> dict[str, Any]:
    first = {name: properties[name] for name in order if isinstance(name, str) and name in properties}
    return first | properties


def from_json_schema(schema: Any, param: str = "response_format") -> Any:
    """A JSON Schema as a `Schema`, its references written out and what cannot be expressed left away.

    Args:
        schema: The schema.
        param: The parameter of the request that it is, for errors.

    Raises:
        MeshError: FAULT_UNSUPPORTED for a schema that refers to itself, or to what it does not define.
    """
    return _Writer(schema, param).schema(schema, ())


class _Writer:
    """Writes one schema; knows its definitions."""

    def __init__(self, root: Any, param: str) -> None:
        self._root = root if isinstance(root, dict) else {}
        self._param = param
        self._count = 0  # schemas written

    def schema(self, value: Any, seen: tuple[str, ...]) -> dict[str, Any]:
        """A schema below the references `seen`."""
        self._count += 1
        if len(seen) > MAX_DEPTH or self._count > MAX_SCHEMAS:
            raise unsupported("the schema is too large once its references are written out", self._param)
        if not isinstance(value, dict):
            return {}  # `true`: anything
        reference = value.get("$ref")
        if isinstance(reference, str):
            if reference in seen:
                raise unsupported("the schema refers to itself", self._param)
            rest = {name: item for name, item in value.items() if name != "$ref"}
            return self.schema({**self._definition(reference), **rest}, (*seen, reference))
        out = {name: item for name, item in value.items() if name in _KEPT}
        if value.get("format") in _FORMATS:
            out["format"] = value["format"]
        if "const" in value:
            out["enum"] = [value["const"]]
        self._type(value, out)
        self._children(value, out, (*seen, ""))
        self._alternatives(value, out, (*seen, ""))
        _enum(out)
        return out

    def _definition(self, reference: str) -> dict[str, Any]:
        found: Any = self._root
        for name in reference.removeprefix("#").split("/")[1:]:
            found = found.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        if not reference.startswith("#") or not isinstance(found, dict):
            raise unsupported("the schema refers to what it does not define", self._param)
        return found

    def _type(self, value: dict[str, Any], out: dict[str, Any]) -> None:
        given = value.get("type")
        kinds = [kind for kind in (given if isinstance(given, list) else [given]) if isinstance(kind, str)]
        real = [kind for kind in kinds if kind.lower() != "null"]
        if len(real) < len(kinds) or value.get("nullable") is True:
            out["nullable"] = True
        if len(real) == 1:
            out["type"] = real[0].upper()
        elif real:
            out["anyOf"] = [{"type": kind.upper()} for kind in real]

    def _children(self, value: dict[str, Any], out: dict[str, Any], seen: tuple[str, ...]) -> None:
        if isinstance(value.get("properties"), dict):
            out["properties"] = {name: self.schema(item, seen) for name, item in value["properties"].items()}
        if isinstance(value.get("items"), dict):
            out["items"] = self.schema(value["items"], seen)

    def _alternatives(self, value: dict[str, Any], out: dict[str, Any], seen: tuple[str, ...]) -> None:
        for name in ("anyOf", "oneOf"):
            choices = objects_in(value.get(name))
            real = [item for item in choices if item.get("type") != "null"]
            if len(real) < len(choices):
                out["nullable"] = True
            if len(real) == 1:
                for key, item in self.schema(real[0], seen).items():
                    out.setdefault(key, item)
            elif real:
                out["anyOf"] = [self.schema(item, seen) for item in real]
        for item in objects_in(value.get("allOf")):
            for key, inner in self.schema(item, seen).items():
                before = out.get(key)
                if key == "properties" and isinstance(before, dict):
                    out[key] = {**before, **inner}
                elif key == "required" and isinstance(before, list) and isinstance(inner, list):
                    out[key] = [*before, *inner]
                else:
                    out.setdefault(key, inner)


def _enum(out: dict[str, Any]) -> None:
    """`enum` holds texts only; of other values the type alone is kept."""
    values = out.get("enum")
    if not isinstance(values, list):
        return
    texts = [item for item in values if isinstance(item, str)]
    if None in values:
        out["nullable"] = True
    if texts:
        out["enum"] = texts
        out.setdefault("type", "STRING")
        if out["type"] == "STRING":
            out["format"] = "enum"
    else:
        del out["enum"]
