"""One request for each path of the HTTP door: good enough that what is judged is the credential."""

import re
from dataclasses import dataclass
from typing import Any, Final

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from buf.validate import validate_pb2
from polyroute.edge.admin.bindings import Binding
from polyroute.edge.admin.gateway import Administration
from polyroute.edge.admin.transcoding import spoken
from polyroute.edge.http.access import ANY, Declared
from polyroute.edge.http.admin import AdminDoor, Reach
from polyroute.edge.http.app import App, Doors
from polyroute.edge.http.pages import Pages
from polyroute.mesh.inprocess.channel import LocalChannel
from polyroute.mesh.inprocess.server import LocalServer

F: Final = FieldDescriptor
_BODY: Final = {
    "model": "m",
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 8,
    "prompt": "hi",
    "input": "hi",
    "query": "hi",
    "documents": ["hi"],
    "voice": "v",
    "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
    "content": {"parts": [{"text": "hi"}]},
    "requests": [{"model": "models/m", "content": {"parts": [{"text": "hi"}]}}],
}
_ALONE: Final = {
    "/responses": ("model", "input"),
    "/embeddings": ("model", "input"),
    "/moderations": ("model", "input"),
}
_FORMS: Final = ("/images/edits", "/images/variations", "/audio/transcriptions", "/audio/translations")
_PATTERNS: Final = {"0-9a-fA-F": "0" * 64, "@": "somebody@example.org"}


@dataclass(frozen=True, slots=True)
class Sample:
    """A request but for its credential."""

    verb: str
    path: str
    body: bytes = b""
    kind: str = "application/json"


def doors() -> tuple[App, Administration]:
    """The HTTP door as it is built, with nothing behind it; and what administrators may ask there."""
    nothing: Any = None
    administration = Administration(lambda _: LocalChannel(LocalServer()))
    return App(
        Doors.of(nothing), Pages(nothing, nothing, nothing, nothing), AdminDoor(administration, Reach.MACHINE)
    ), administration


def of_key(declared: Declared) -> Sample:
    """A request of a caller, or of anybody."""
    path = re.sub(r"\{[^}]+\}", "m", declared.path)
    verb = "GET" if declared.verb == ANY else declared.verb
    if verb == "GET":
        return Sample(verb, path)
    if path.endswith(_FORMS):
        return Sample(verb, path, _form(b"image" if "/images/" in path else b"file"), "multipart/form-data; boundary=b")
    names = next((names for end, names in _ALONE.items() if path.endswith(end)), tuple(_BODY))
    return Sample(verb, path, orjson.dumps({name: _BODY[name] for name in names}))


def of_admin(binding: Binding) -> Sample:
    """A request of an administrator that holds every rule of the contract."""
    request = _message(binding.method.input_type)
    for variable in binding.variables:
        *above, last = variable.split(".")
        place: Any = request
        for name in above:
            place = getattr(place, name)
        if not getattr(place, last):
            setattr(place, last, "m" if place.DESCRIPTOR.fields_by_name[last].type == F.TYPE_STRING else 1)
    path, body = spoken(binding, request)
    return Sample(binding.verb, path, body)


def _form(file: bytes) -> bytes:
    texts = {b'name="model"': b"m", b'name="prompt"': b"hi"}
    files = {b'name="%b"; filename="f"' % file: b"x"}
    parts = [b"Content-Disposition: form-data; %b\r\n\r\n%b" % part for part in (texts | files).items()]
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


def _message(descriptor: Descriptor) -> Message:
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        rules = field.GetOptions().Extensions[validate_pb2.field]
        value = _value(field, rules)
        if value is None:
            continue
        if field.is_repeated:
            getattr(message, field.name).append(value)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(value)
        else:
            setattr(message, field.name, value)
    return message


def _value(field: FieldDescriptor, rules: Any) -> Any:
    """What a field needs; None for nothing."""
    if field.is_repeated:
        wanted = rules.repeated.min_items
        return _message(field.message_type) if wanted and field.message_type else "m" if wanted else None
    if field.message_type is not None:
        return _message(field.message_type) if rules.required else None
    if field.enum_type is not None:
        return 1 if 0 in rules.enum.not_in else None
    if rules.string.pattern:
        return next((value for sign, value in _PATTERNS.items() if sign in rules.string.pattern), "m")
    least = rules.int64.gt + 1 if rules.int64.HasField("gt") else rules.int64.gte
    return "m" * rules.string.min_len or max(rules.uint32.gte, least) or None
