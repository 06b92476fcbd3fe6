"""JSON Schemas of messages, made from their descriptors and the rules beside their fields."""

from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from buf.validate import validate_pb2

Schema = dict[str, Any]

_PREFIX: Final = "polyroute.api."
_LONG: Final[Schema] = {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}  # JSON's own numbers lose digits
_TYPES: Final[dict[int, Schema]] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_SINT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "format": "int64", "minimum": 0},
    FieldDescriptor.TYPE_INT64: _LONG,
    FieldDescriptor.TYPE_SINT64: _LONG,
    FieldDescriptor.TYPE_UINT64: _LONG,
}
_KNOWN: Final[dict[str, Schema]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?s$"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Struct": {"type": "object"},
}


def name_of(descriptor: Descriptor) -> str:
    """A message's name among the schemas: `auth.v1.Key`."""
    return descriptor.full_name.removeprefix(_PREFIX)


def ref(descriptor: Descriptor) -> Schema:
    """A reference to a message's schema."""
    return {"$ref": f"#/components/schemas/{name_of(descriptor)}"}


def collect(descriptor: Descriptor, into: dict[str, Schema], without: frozenset[str] = frozenset()) -> Schema:
    """The schema of a message; those of the messages in it are put into `into`, under their names.

    Args:
        descriptor: Of the message.
        into: All that others refer to.
        without: Fields that are said elsewhere.
    """
    fields = [field for field in descriptor.fields if field.name not in without]
    schema: Schema = {
        "type": "object",
        "properties": {field.name: of(field, into) for field in fields},
        "additionalProperties": False,
    }
    if required := [field.name for field in fields if _rules(field).required]:
        schema["required"] = required
    return schema


def of(field: FieldDescriptor, into: dict[str, Schema]) -> Schema:
    """The schema of a field."""
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return {"type": "object", "additionalProperties": of(kind.fields_by_name["value"], into)}
    schema = _single(field, into)
    return {"type": "array", "items": schema} if field.is_repeated else schema


def _single(field: FieldDescriptor, into: dict[str, Schema]) -> Schema:
    kind = field.message_type
    if kind is not None:
        return _known(kind) or _referred(kind, into)
    if field.enum_type is not None:
        return _enum(field.enum_type)
    return {**_TYPES[field.type], **_bounds(field)}


def _known(kind: Descriptor) -> Schema:
    return dict(_KNOWN.get(kind.full_name, {}))


def _referred(kind: Descriptor, into: dict[str, Schema]) -> Schema:
    name = name_of(kind)
    if name not in into:
        into[name] = {}  # there already, should the message hold itself
        into[name] = collect(kind, into)
    return ref(kind)


def _enum(kind: EnumDescriptor) -> Schema:
    return {"type": "string", "enum": [value.name for value in kind.values]}


def _bounds(field: FieldDescriptor) -> Schema:
    """How long a text may be, as far as JSON Schema can say it: it counts characters, and not bytes."""
    rules = _rules(field)
    if field.is_repeated or not rules.HasField("string"):
        return {}
    bounds = {"minLength": rules.string.min_len, "maxLength": rules.string.max_len or rules.string.max_bytes}
    return {name: value for name, value in bounds.items() if value}


def _rules(field: FieldDescriptor) -> validate_pb2.FieldRules:
    return field.GetOptions().Extensions[validate_pb2.field]
