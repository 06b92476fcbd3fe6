"""The description of administration over HTTP, OpenAPI 3.1, made from the contract."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from polyroute.edge.admin.bindings import ALL, Binding, anonymous, field_at
from polyroute.edge.admin.schemas import Schema, collect, name_of, of, ref
from polyroute.edge.admin.transcoding import queryable

# Relative to where the description was read (https://spec.openapis.org/oas/v3.1.1#server-object): only whoever read it
# knows by which scheme and name they did.
SERVERS: Final = [{"url": "/", "description": "the gateway that this was read from"}]
_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_ERROR: Final[Schema] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "status", "details"],
            "properties": {
                "code": {"type": "integer", "description": "the HTTP status"},
                "message": {"type": "string"},
                "status": {"type": "string", "description": "a name of google.rpc.Code"},
                "details": {"type": "array", "items": {"type": "object"}},
            },
        }
    },
}
_REFUSALS: Final = {
    "400": "the request cannot be understood",
    "401": "the credential is missing or wrong",
    "403": "the credential may not do this",
    "404": "there is no such thing",
    "409": "something else is in the way",
    "429": "too often",
    "500": "an error of the gateway",
    "503": "the gateway cannot serve just now",
    "504": "not done in time",
}


def document(bindings: Iterable[Binding]) -> dict[str, Any]:
    """The whole description."""
    schemas: dict[str, Schema] = {"Error": _ERROR}
    paths: dict[str, dict[str, Any]] = {}
    named: dict[str, Binding] = {}  # how paths look -> the binding whose variables they are described with
    first: dict[str, Binding] = {}  # method -> its shortest path
    for binding in sorted(bindings, key=lambda binding: (len(binding.template), binding.template, binding.verb)):
        place = named.setdefault(binding.pattern.pattern, binding)
        operation = _operation(binding, place.variables, schemas)
        operation["operationId"] = _unique(binding, first.setdefault(binding.rpc, binding))
        paths.setdefault(place.template, {})[binding.verb.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Polyroute administration", "version": "1"},
        "servers": SERVERS,
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"admin": {"type": "http", "scheme": "bearer"}}},
        "security": [{"admin": []}],
    }


def _unique(binding: Binding, first: Binding) -> str:
    """The name of an operation: its method's, with what tells another path of the method from the first."""
    if binding is first:
        return binding.method.name
    if binding.verb != first.verb:
        return f"{binding.method.name}By{binding.verb.capitalize()}"
    own = "_".join(name for name in binding.variables if name not in first.variables)
    return f"{binding.method.name}By{''.join(word.capitalize() for word in re.split('[_.]', own))}"


def _operation(binding: Binding, names: Sequence[str], schemas: dict[str, Schema]) -> dict[str, Any]:
    method = binding.method
    answer = method.output_type
    schemas[name_of(answer)] = collect(answer, schemas)
    operation: dict[str, Any] = {
        **({"security": []} if anonymous(method) else {}),
        "summary": _summary(method.name),
        "tags": [method.containing_service.name],
        "parameters": [*_in_path(binding, names, schemas), *_in_query(binding, schemas)],
        "responses": {
            "200": {"description": "the answer", "content": _json(ref(answer))},
            **{status: {"description": why, "content": _json(_error())} for status, why in _REFUSALS.items()},
        },
    }
    if binding.body:
        operation["requestBody"] = {"required": True, "content": _json(_body(binding, schemas))}
    return operation


def _in_path(binding: Binding, names: Sequence[str], schemas: dict[str, Schema]) -> list[dict[str, Any]]:
    fields = [field_at(binding.method, variable) for variable in binding.variables]
    described = zip(names, fields, strict=True)
    return [{"name": name, "in": "path", "required": True, "schema": of(field, schemas)} for name, field in described]


def _in_query(binding: Binding, schemas: dict[str, Schema]) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "schema": of(field, schemas)} for name, field in queryable(binding)]


def _body(binding: Binding, schemas: dict[str, Schema]) -> Schema:
    if binding.body == ALL:
        return collect(binding.method.input_type, schemas, frozenset(binding.variables))
    return of(field_at(binding.method, binding.body), schemas)


def _summary(name: str) -> str:
    """`RotateKey` as `Rotate key`."""
    first, *rest = _WORD.split(name)
    return " ".join((first, *(word.lower() for word in rest)))


def _error() -> Schema:
    return {"$ref": "#/components/schemas/Error"}


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
