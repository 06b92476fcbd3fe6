"""Made-up messages of any type of the contract."""

import functools
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from polyroute.edge.admin.bindings import ALL, Binding

F: Final = FieldDescriptor
_INTEGERS: Final = {
    F.TYPE_INT32: (-(2**31), 2**31 - 1),
    F.TYPE_UINT32: (0, 2**32 - 1),
    F.TYPE_INT64: (-(2**63), 2**63 - 1),
    F.TYPE_UINT64: (0, 2**64 - 1),
}
_SECONDS: Final = 2**31
DEPTH: Final = 2


@functools.cache
def requests(binding: Binding) -> st.SearchStrategy[Message]:
    """Requests that a binding can say: what its path names is not empty, its body there, its query flat."""
    return messages(binding.method.input_type).map(lambda request: _sayable(binding, request))


@functools.cache
def messages(descriptor: Descriptor, depth: int = DEPTH) -> st.SearchStrategy[Message]:
    """Messages of a type, some of their fields set."""
    made = GetMessageClass(descriptor)
    known = _known(descriptor, made)
    if known is not None:
        return known
    fields = [field for field in descriptor.fields if depth or field.message_type is None]
    return st.fixed_dictionaries({}, optional={field.name: _values(field, depth) for field in fields}).map(
        lambda values: made(**values)
    )


def _known(descriptor: Descriptor, made: Any) -> st.SearchStrategy[Message] | None:
    seconds = st.integers(0, _SECONDS)
    match descriptor.full_name:
        case "google.protobuf.Timestamp" | "google.protobuf.Duration":
            return seconds.map(lambda second: made(seconds=second, nanos=0))
        case "google.protobuf.FieldMask":
            return st.lists(st.sampled_from(["name", "billing_mode"]), min_size=1, unique=True).map(
                lambda paths: made(paths=paths)
            )
    return None


def _values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        key, value = (_single(kind.fields_by_name[name], depth - 1) for name in ("key", "value"))
        return st.dictionaries(key, value, min_size=1, max_size=2)
    single = _single(field, depth)
    return st.lists(single, min_size=1, max_size=2) if field.is_repeated else single


def _single(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, depth - 1)
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.type in _INTEGERS:
        return st.integers(*_INTEGERS[field.type])
    if field.type == F.TYPE_BOOL:
        return st.booleans()
    if field.type == F.TYPE_BYTES:
        return st.binary(max_size=4)
    return st.text(max_size=6)


def _sayable(binding: Binding, request: Any) -> Message:
    for variable in binding.variables:
        *above, last = variable.split(".")
        place = request
        for name in above:
            place = getattr(place, name)
        field = place.DESCRIPTOR.fields_by_name[last]
        if not getattr(place, last):
            setattr(place, last, 1 if field.type != F.TYPE_STRING else "a/b:c %é")
    if binding.body not in ("", ALL):
        getattr(request, binding.body).SetInParent()
    if binding.body != ALL:
        for field in request.DESCRIPTOR.fields:
            if field.name != binding.body and field.message_type is not None:
                _flattened(request, field)
    return request  # type: ignore[no-any-return] # a message of the contract


def _flattened(request: Any, field: FieldDescriptor) -> None:
    """Leaves out what lies so deep that no query can say it."""
    kind = field.message_type
    if kind is None or kind.full_name.startswith("google.protobuf."):
        return
    if field.is_repeated:
        request.ClearField(field.name)
    elif request.HasField(field.name):
        for inner in kind.fields:
            if inner.message_type is not None and not inner.message_type.full_name.startswith("google.protobuf."):
                getattr(request, field.name).ClearField(inner.name)
