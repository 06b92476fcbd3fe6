"""`multipart/form-data` as clients of audio and picture APIs send it (RFC 7578, RFC 2046 5.1).

Read strictly: what two parsers could take differently (text before the first boundary, a name with escapes, a part in
another transfer encoding) is refused, because the gateway's policy reads one parse and the vendor another.
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from polyroute.dialects.jsontools import dumps, invalid
from polyroute.dialects.task import Body

MEDIA_TYPE: Final = "multipart/form-data"
MAX_FIELDS: Final = 256
MAX_HEAD_BYTES: Final = 4096  # of one part
MAX_BOUNDARY_BYTES: Final = 70  # RFC 2046, 5.1.1

_BOUNDARY: Final = re.compile(r""";[ \t]*boundary=(?:"([^"\r\n]+)"|([^\s;"]+))""", re.IGNORECASE)
_BOUNDARY_CHARS: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]*[0-9A-Za-z'()+_,./:=?-]")
_PARAMETER: Final = re.compile(r""";[ \t]*([a-z]+\*?)[ \t]*=[ \t]*(?:"((?:\\"|[^"])*)"|([^;"\s]*))""", re.IGNORECASE)
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+(?:\[[A-Za-z0-9_.-]*\])*")
_MEDIA_TYPE: Final = re.compile(r"[\w.+-]+/[\w.+-]+(?:; *[\w.-]+=[\w.+-]+)*", re.ASCII)
_PLAIN_ENCODINGS: Final = frozenset({"", "binary", "8bit", "7bit"})
_ESCAPES: Final = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})  # as browsers write file names


class Field(NamedTuple):
    """One part of a form.

    Attributes:
        name: Its name.
        data: Its bytes.
        filename: Name of the file that it is; None for a plain value.
        content_type: Its media type; empty when it says none.
    """

    name: str
    data: bytes
    filename: str | None = None
    content_type: str = ""


class _Place(NamedTuple):
    """Where a part stands in the body: its value is `body[start:end]`."""

    field: Field
    start: int
    end: int


def is_form(content_type: str) -> bool:
    """Whether a body of this media type is a form."""
    return content_type.strip().lower().startswith(MEDIA_TYPE)


def read(body: Body) -> list[Field]:
    """The parts of a form, in order.

    Raises:
        MeshError: REASON_INVALID_REQUEST when it is no form, or not one that every parser reads alike.
    """
    return [place.field for place in _places(body)]


def write(fields: Iterable[Field], *, path: str = "") -> Body:
    """A form; its boundary follows from its content and stands nowhere in it.

    Raises:
        MeshError: REASON_INVALID_REQUEST for a name that forms do not have.
    """
    all_fields = list(fields)
    boundary = _free_boundary(all_fields)
    pieces: list[bytes] = []
    for field in all_fields:
        if not _NAME.fullmatch(field.name):
            raise invalid("the name of a member cannot stand in a form")
        pieces += [b"--", boundary, b"\r\n", _head(field), b"\r\n\r\n", field.data, b"\r\n"]
    pieces += [b"--", boundary, b"--\r\n"]
    return Body(b"".join(pieces), f"{MEDIA_TYPE}; boundary={boundary.decode()}", path)


def with_value(body: Body, name: str, value: str) -> Body:
    """The form with one plain value replaced, or added in front; every other byte stays."""
    for place in _places(body):
        if place.field.name == name:
            data = body.data[: place.start] + value.encode() + body.data[place.end :]
            return body._replace(data=data)
    added = b"--%b\r\n%b\r\n\r\n%b\r\n" % (_boundary(body), _head(Field(name, b"")), value.encode())
    return body._replace(data=added + body.data)


def _head(field: Field) -> bytes:
    head = f'Content-Disposition: form-data; name="{field.name}"'
    if field.filename is not None:
        head += f'; filename="{field.filename.translate(_ESCAPES)}"'
    if _MEDIA_TYPE.fullmatch(field.content_type):
        head += f"\r\nContent-Type: {field.content_type}"
    return head.encode("utf-8", "replace")


def _free_boundary(fields: list[Field]) -> bytes:
    seed = blake2b(digest_size=12)
    for field in fields:
        seed.update(field.name.encode("utf-8", "replace") + b"\0" + field.data)
    while any(seed.hexdigest().encode() in field.data for field in fields):
        seed.update(b"again")
    return b"polyroute-" + seed.hexdigest().encode()


def _boundary(body: Body) -> bytes:
    found = _BOUNDARY.search(body.content_type) if is_form(body.content_type) else None
    text = (found.group(1) or found.group(2)) if found else ""
    if not text or len(text) > MAX_BOUNDARY_BYTES or not _BOUNDARY_CHARS.fullmatch(text):
        raise invalid("the content type names no boundary of a form")
    return text.encode("ascii")


def _places(body: Body) -> list[_Place]:
    data, delimiter = body.data, b"--" + _boundary(body)
    if not data.startswith(delimiter):
        raise invalid("the body does not begin with its boundary")
    places: list[_Place] = []
    at = len(delimiter)
    delimiter = b"\r\n" + delimiter
    while not data.startswith(b"--", at):
        if len(places) == MAX_FIELDS:
            raise invalid(f"the form has more than {MAX_FIELDS} parts")
        if not data.startswith(b"\r\n", at):
            raise invalid("the form has a boundary that does not end its line")
        head_end = data.find(b"\r\n\r\n", at, at + MAX_HEAD_BYTES)
        end = data.find(delimiter, head_end + 2) if head_end >= 0 else -1
        if end < 0:
            raise invalid("the form breaks off, or a part has no headers")
        start = head_end + 4
        if end < start:
            raise invalid("the form has a part that breaks off")
        places.append(_Place(_field(data[at + 2 : head_end], data[start:end]), start, end))
        at = end + len(delimiter)
    if data[at + 2 :].strip():
        raise invalid("the form goes on after its end")
    return places


def _field(head: bytes, data: bytes) -> Field:
    headers: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon or name.strip() != name or name.lower() in headers:
            raise invalid("the form has a part with a header that is none")
        headers[name.lower()] = value.strip()
    kind, parameters = _disposition(headers.get("content-disposition", ""))
    name = parameters.get("name", "")
    if kind != "form-data" or not _NAME.fullmatch(name) or "name*" in parameters:
        raise invalid("the form has a part without a plain name")
    if headers.get("content-transfer-encoding", "").lower() not in _PLAIN_ENCODINGS:
        raise invalid("a part of the form is in a transfer encoding, which forms do not have", name)
    filename = parameters.get("filename")
    if filename is None and "filename*" in parameters:
        filename = "file"
    return Field(name, data, filename, headers.get("content-type", ""))


def _disposition(value: str) -> tuple[str, dict[str, str]]:
    kind, semicolon, rest = value.partition(";")
    parameters: dict[str, str] = {}
    for name, quoted, bare in _PARAMETER.findall(semicolon + rest):
        if name.lower() in parameters:
            raise invalid("the form has a part with two names")
        # only a quote is escaped by the clients in use; other backslashes belong to paths of Windows
        parameters[name.lower()] = quoted.replace('\\"', '"') or bare
    return kind.strip().lower(), parameters


def values(fields: Iterable[Field]) -> dict[str, Any]:
    """The plain values of a form by name, as text; a name that stands several times, or ends in `[]`, gives a list.

    Raises:
        MeshError: REASON_INVALID_REQUEST for a value that is not UTF-8.
    """
    out: dict[str, Any] = {}
    for field in fields:
        if field.filename is not None:
            continue
        try:
            text = field.data.decode()
        except UnicodeDecodeError:
            raise invalid("the value is not UTF-8", field.name) from None
        name = field.name.removesuffix("[]")
        if name in out or name != field.name:
            before = out.get(name, [])
            out[name] = [*(before if isinstance(before, list) else [before]), text]
        else:
            out[name] = text
    return out


def fields_of(members: Mapping[str, Any]) -> list[Field]:
    """Plain values of a form; a list as several of one name, an object as `name[member]`, as form parsers expect it."""
    return [field for name, value in members.items() for field in _flat(name, value)]


def _flat(name: str, value: Any) -> list[Field]:
    if isinstance(value, list):
        return [field for item in value for field in _flat(f"{name}[]", item)]
    if isinstance(value, dict):
        return [field for member, item in value.items() for field in _flat(f"{name}[{member}]", item)]
    text = value if isinstance(value, str) else dumps(value).decode()
    return [Field(name, text.encode())]
