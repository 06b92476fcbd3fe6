"""Requests of administration as HTTP and as messages, both ways, and answers as JSON.

JSON is that of https://protobuf.dev/programming-guides/json: members by their names in the contract (lowerCamelCase is
understood too), 64-bit integers as strings, enums by name, times as RFC 3339, lengths of time as `3600s`. In a path and
in a query an enum may also be named without the prefix of its values: `requests` for `LIMIT_KIND_REQUESTS`.
"""

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

import orjson
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.admin.bindings import ALL, Binding, Found, field_at
from polyroute.mesh.config import suggestion
from polyroute.mesh.errors import MeshError

MASK: Final = "google.protobuf.FieldMask"
_KNOWN: Final = "google.protobuf."  # messages of this package have JSON forms of their own
_MEMBERS: Final = 100  # of a query; nobody means more
_TRUTH: Final = {"true": True, "false": False}

Tree = dict[str, Any]


def read(found: Found, query: str, body: bytes) -> Message:
    """The request that a path, a query and a body make together.

    Raises:
        MeshError: REASON_INVALID_REQUEST, with the place: a member is unknown or said twice, or is not of its kind.
    """
    binding = found.binding
    tree = _body(binding, body)
    for name, value in _query(query):
        dotted, field = _asked(binding, name)
        _put(tree, dotted.split("."), _said(field, name, value), repeated=field.is_repeated)
    for name, value in found.values.items():
        _put(tree, name.split("."), _said(field_at(binding.method, name), name, value))
    return message_of(binding.method.input_type, tree)


def message_of(descriptor: Descriptor, tree: Tree) -> Message:
    """A message of that type from its JSON form.

    Raises:
        MeshError: REASON_INVALID_REQUEST, something in it is not of its kind.
    """
    message = GetMessageClass(descriptor)()
    try:
        json_format.ParseDict(tree, message)
    except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
        raise invalid("", _plain(str(error))) from None
    return message


def written(message: Message) -> bytes:
    """An answer as JSON: every member of its own kind is there, also at its default."""
    return orjson.dumps(tree_of(message))


def tree_of(message: Message) -> Tree:
    """The same, not yet text."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def spoken(binding: Binding, request: Message) -> tuple[str, bytes]:
    """The path with its query, and the body, by which a client sends a request; what `read` reads.

    Raises:
        MeshError: REASON_INVALID_REQUEST, a field that the path needs is empty.
    """
    tree = json_format.MessageToDict(request, preserving_proto_field_name=True)
    path = binding.template
    for name in binding.variables:
        value = str(_pop(tree, name.split(".")) or "")
        if not value:
            raise invalid(name, "is missing")
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    if binding.body == ALL:
        return path, orjson.dumps(tree)
    body = orjson.dumps(tree.pop(binding.body, {})) if binding.body else b""
    return path + _queried(tree), body


def _queried(tree: Tree) -> str:
    pairs = list(_leaves(tree, ""))
    return f"?{urlencode(pairs)}" if pairs else ""


def invalid(where: str, what: str) -> MeshError:
    """A request that cannot be understood, and where."""
    text = f"{where}: {what}" if where else what
    violations = [(where, what)] if where else []
    return MeshError(pb.REASON_INVALID_REQUEST, text, metadata={"param": where}, violations=violations)


def _body(binding: Binding, body: bytes) -> Tree:
    if not binding.body:
        if body.strip():
            raise invalid("", f"{binding.verb} {binding.template} takes no body")
        return {}
    try:
        value = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError as error:
        raise invalid("", f"the body is not JSON: {error}") from None
    if binding.body == ALL:
        return _named(binding.method.input_type, value, "")
    kind = field_at(binding.method, binding.body).message_type
    assert kind is not None  # noqa: S101 - a binding has no other body
    return {binding.body: _named(kind, value, binding.body)}


def _named(descriptor: Descriptor, value: Any, where: str) -> Tree:
    """A JSON object with its members by their names in the contract, all the way down."""
    if not isinstance(value, dict):
        raise invalid(where or "the body", "is not a JSON object")
    fields = {name: field for field in descriptor.fields for name in (field.name, field.json_name)}
    tree: Tree = {}
    for name, member in value.items():
        place = f"{where}.{name}" if where else name
        field = fields.get(name)
        if field is None:
            raise invalid(place, "unknown member" + suggestion(name, [known.name for known in descriptor.fields]))
        if field.name in tree:
            raise invalid(place, "is said twice")
        tree[field.name] = _member(field, member, place)
    return tree


def _member(field: FieldDescriptor, value: Any, where: str) -> Any:
    kind = field.message_type
    if kind is None or value is None or kind.full_name.startswith(_KNOWN):
        return value
    if kind.GetOptions().map_entry:
        inner = kind.fields_by_name["value"]
        if not isinstance(value, dict):
            raise invalid(where, "is not a JSON object")
        return {name: _member(inner, one, f"{where}.{name}") for name, one in value.items()}
    if field.is_repeated:
        if not isinstance(value, list):
            raise invalid(where, "is not a JSON array")
        return [_named(kind, one, f"{where}[{place}]") for place, one in enumerate(value)]
    return _named(kind, value, where)


def _query(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MEMBERS)
    except UnicodeDecodeError:
        raise invalid("the query", "is not UTF-8") from None
    except ValueError:
        raise invalid("the query", f"has more than {_MEMBERS} members") from None


def _asked(binding: Binding, name: str) -> tuple[str, FieldDescriptor]:
    """The field that a member of the query means, and its dotted name."""
    known = dict(queryable(binding))
    for dotted, field in known.items():
        if name in (dotted, _camel(dotted)):
            return dotted, field
    raise invalid(name, "unknown member of the query" + suggestion(name, known))


def queryable(binding: Binding) -> Iterable[tuple[str, FieldDescriptor]]:
    """The fields that a binding's query may hold, dotted: those that are neither in the path nor in the body."""
    if binding.body == ALL:
        return
    yield from _fields(binding.method.input_type, "", {binding.body, *binding.variables})


def _fields(descriptor: Descriptor, where: str, without: set[str]) -> Iterable[tuple[str, FieldDescriptor]]:
    for field in descriptor.fields:
        name = f"{where}.{field.name}" if where else field.name
        kind = field.message_type
        if name in without or (kind is not None and kind.GetOptions().map_entry):
            continue
        if kind is None or kind.full_name.startswith(_KNOWN):
            yield name, field
        elif not field.is_repeated and not where:  # no request needs to go deeper
            yield from _fields(kind, name, without)


def _said(field: FieldDescriptor, name: str, value: str) -> Any:
    """A text from a path or a query in the JSON form of its field."""
    if field.type == FieldDescriptor.TYPE_BOOL:
        if value not in _TRUTH:
            raise invalid(name, "is neither true nor false")
        return _TRUTH[value]
    if field.enum_type is not None:
        return _enum(field.enum_type, value)
    if field.message_type is not None and field.message_type.full_name == MASK:
        return ",".join(_camel(path.strip()) for path in value.split(","))
    return value


def _enum(kind: EnumDescriptor, value: str) -> str:
    prefix = kind.values[0].name.removesuffix("UNSPECIFIED")
    whole = prefix + value.upper()
    return whole if whole in kind.values_by_name else value


def _camel(path: str) -> str:
    """A field's path as masks have it in JSON."""
    first, *rest = path.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def _put(tree: Tree, names: list[str], value: Any, *, repeated: bool = False) -> None:
    """Sets a value in a tree, where there must not be another one."""
    *above, last = names
    for name in above:
        below = tree.setdefault(name, {})
        if not isinstance(below, dict):
            raise invalid(".".join(names), "is said twice")
        tree = below
    if repeated:
        tree.setdefault(last, []).append(value)
    elif tree.setdefault(last, value) != value:
        raise invalid(".".join(names), "is said twice, and differently")


def _pop(tree: Tree, names: list[str]) -> Any:
    *above, last = names
    for name in above:
        tree = tree.get(name) or {}
    return tree.pop(last, None)


def _leaves(tree: Tree, where: str) -> Iterable[tuple[str, str]]:
    for name, value in tree.items():
        place = f"{where}{name}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{place}.")
        elif isinstance(value, list):
            yield from ((place, _text(one)) for one in value)
        else:
            yield place, _text(value)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plain(text: str) -> str:
    """What the parser says, as one lower-case line without a period."""
    line = " ".join(text.split())[:300].rstrip(".")
    return line[:1].lower() + line[1:]
