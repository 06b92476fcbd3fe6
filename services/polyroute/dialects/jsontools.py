"""JSON as a gateway needs it: refuse what parsers disagree about, and change single members without touching the rest.

Policy reads one parse of a body and the vendor another. Whatever two parsers may read differently (a member that
stands twice, a name written with escapes, nesting that one of them gives up on) is therefore refused before anything
is decided.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import accumulate, pairwise
from json.decoder import JSONDecoder
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

import msgspec
import orjson

from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError

MAX_DEPTH: Final = 64
MAX_BRACKETS: Final = 400_000  # lists and objects in one body; more is an attack on whoever walks them

# Long values of the known requests, over which the scanner may jump: msgspec skips them at C speed.
_LONG: Final = ("messages", "input", "prompt", "tools")
_POLICY_NAMES: Final = (
    b"model",
    b"messages",
    b"stream",
    b"stream_options",
    b"prompt",
    b"input",
    b"max_tokens",
    b"max_completion_tokens",
    b"max_output_tokens",
    b"n",
    b"stop",
    b"previous_response_id",
)
_READ_BY_POLICY: Final = re.compile(  # by their first letters, so that most other names are passed at once
    rb'"(?=[%b])(%b)"' % (bytes(sorted({name[0] for name in _POLICY_NAMES})), b"|".join(_POLICY_NAMES))
)
_ESCAPED_LETTER: Final = re.compile(rb"\\u00(?:5[fF]|[67][0-9a-fA-F])")  # no encoder escapes a-z or _ but to deceive
_BRACKETS: Final = b"[]{}"
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in _BRACKETS)
_AS_LISTS: Final = bytes.maketrans(b"{}", b"[]")  # valid JSON closes what it opened: one kind is enough to count
_STEP: Final = {ord("["): 1, ord("]"): -1}
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_COLON: Final = re.compile(rb"[ \t\n\r:]*")
_PATH: Final = re.compile(r" - at `\$\.?(.*)`$")
_WINDOW: Final = 4096  # bytes that are searched before the next quote is looked for
_LONGEST_NAME: Final = 64

T = TypeVar("T")


class _Long(msgspec.Struct):
    messages: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()


class Member(NamedTuple):
    """Where one member of an object stands: `body[start:end]` is `"name": value`."""

    name: str
    start: int
    value: int  # where its value starts
    end: int


_decode_long: Final = msgspec.json.Decoder(_Long).decode
# Numbers stay text: an integer of 5,000 digits is no error of ours, and nobody looks at the values.
_read_value: Final = JSONDecoder(strict=False, parse_int=str, parse_float=str).raw_decode


def invalid(message: str, param: str = "") -> MeshError:
    """A refusal of the caller's request; `param` is the member, as in `messages[0].content`."""
    return MeshError(
        errors_pb2.REASON_INVALID_REQUEST,
        message,
        metadata={"param": param} if param else None,
        violations=((param, message),) if param else (),
    )


def refuse(error: Exception) -> NoReturn:
    """Raises the parser's complaint about a client's body as REASON_INVALID_REQUEST."""
    if isinstance(error, msgspec.ValidationError):
        text = str(error)
        found = _PATH.search(text)
        param = found.group(1) if found else ""
        raise invalid(_PATH.sub("", text)[:1].lower() + _PATH.sub("", text)[1:], param.replace("[...]", "[]")) from None
    if isinstance(error, RecursionError):
        raise invalid(f"the body is nested deeper than {MAX_DEPTH} levels") from None
    raise invalid("the body is not valid JSON") from None


BAD_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def dumps(value: object) -> bytes:
    """Compact UTF-8 JSON."""
    return msgspec.json.encode(value)


def loads(data: bytes) -> Any:
    """Any JSON value, NaN and lone surrogates refused.

    Raises:
        ValueError: it is not JSON.
    """
    return orjson.loads(data)


def unpacked(text: str) -> bytes:
    """Bytes out of base64, as RFC 4648, section 4 has it: padded, and nothing else between.

    Raises:
        ValueError: it is not that.
    """
    try:
        return msgspec.convert(text, bytes)
    except msgspec.ValidationError:
        raise ValueError("not base64") from None


def packed(data: bytes | bytearray) -> str:
    """Bytes as base64."""
    text: str = msgspec.to_builtins(data)  # a third of what the standard library takes
    return text


def decoded_member(decode: Callable[[bytes], T], raw: bytes, name: str) -> T:
    """A member of a body, read by a decoder that saw it alone; as safe as a body that was read in one piece.

    Args:
        decode: Of a `msgspec.json.Decoder`.
        raw: The member's value.
        name: What it is called, so that a complaint says where in the body it was.

    Raises:
        msgspec.ValidationError: It has not the shape; the path begins with the member.
        UnicodeDecodeError: It is no UTF-8.
        MeshError: REASON_INVALID_REQUEST, it is nested too deeply.
    """
    try:
        value = decode(raw)
    except msgspec.ValidationError as error:
        text = str(error) if "`$" in str(error) else f"{error} - at `$`"
        raise msgspec.ValidationError(text.replace("`$", f"`$.{name}", 1)) from None
    check_value(raw)
    return value


def check_value(raw: bytes) -> None:
    """Checks what no decoder looked into.

    Raises:
        UnicodeDecodeError: It is no UTF-8.
        MeshError: REASON_INVALID_REQUEST, it is nested too deeply.
    """
    if not raw.isascii():
        raw.decode()
    check_depth(raw)


def members_of(body: bytes) -> dict[str, msgspec.Raw]:
    """The members of a JSON object, each value as it was written.

    Raises:
        MeshError: REASON_INVALID_REQUEST when it is no object.
    """
    try:
        return _decode_members(body)
    except BAD_JSON as error:
        refuse(error)


_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@lru_cache(maxsize=256)
def quoted(names: frozenset[str]) -> re.Pattern[bytes]:
    """What `holds` looks for: one of these names as a JSON text, none longer than 62 bytes."""
    return re.compile(b'"(?:%b)"' % b"|".join(sorted(re.escape(name).encode() for name in names)))


def holds(body: bytes, pattern: re.Pattern[bytes]) -> bool:
    """Whether what begins with a quote stands anywhere in JSON: a cheap way to know that a member does not.

    A picture of a megabyte holds no quotes: it is stepped over ten times faster than it is searched.
    """
    place = 0
    while place >= 0:
        if pattern.search(body, place, place + _WINDOW) is not None:
            return True
        place = body.find(b'"', place + _WINDOW - _LONGEST_NAME)
    return False


def check_depth(body: bytes) -> None:
    """Refuses JSON (already known to be valid) that is nested deeper than MAX_DEPTH."""
    if len(body.split(b"[", MAX_DEPTH + 1)) + len(body.split(b"{", MAX_DEPTH + 1)) <= MAX_DEPTH + 2:
        return
    rest = _outside_strings(body).translate(_AS_LISTS, _NOT_BRACKETS)
    if len(rest) > 2 * MAX_BRACKETS:
        raise invalid(f"the body holds more than {MAX_BRACKETS} lists and objects")
    depth = 0
    while rest and depth < 12:  # each round takes off the innermost level; real requests need about six
        rest = rest.replace(b"[]", b"")
        depth += 1
    if rest and depth + max(accumulate(map(_STEP.__getitem__, rest))) > MAX_DEPTH:
        raise invalid(f"the body is nested deeper than {MAX_DEPTH} levels")


def depth_change(segment: bytes) -> int:
    """How many more lists and objects open than close in a piece of JSON that starts and ends outside strings."""
    outside = _outside_strings(segment)
    opened = outside.count(b"{") + outside.count(b"[")
    return opened - outside.count(b"}") - outside.count(b"]")


def _outside_strings(text: bytes) -> bytes:
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(text.split(b'"')[::2])


def check_once(outer: bytes) -> None:
    """Refuses an object in which a member that policy reads stands twice, or under a name written with escapes."""
    found = _READ_BY_POLICY.findall(outer)
    if len(found) == len(set(found)) and not (b"\\u00" in outer and _ESCAPED_LETTER.search(outer)):
        return
    seen: set[str] = set()
    for member in members(outer):
        name = member.name.encode()
        if name in _POLICY_NAMES and (member.name in seen or not outer.startswith(b'"' + name + b'"', member.start)):
            raise invalid(f"the member {member.name} stands twice, or its name is written with escapes", member.name)
        seen.add(member.name)


def without_value(body: bytes, quoted: bytes, value: bytes) -> bytes:
    """The object with the long value of one member (its last, as parsers read it) taken out, for cheap searching.

    Falls back to the whole body when the value is not where its name first stands.
    """
    name = body.find(quoted)
    if name < 0 or not value:
        return body
    start = _COLON.match(body, name + len(quoted)).end()  # type: ignore[union-attr] # matches always, be it nothing
    if not body.startswith(value, start):
        return body
    return body[:start] + b"0" + body[start + len(value) :]


def members(body: bytes) -> list[Member]:
    """The members of the outermost object, in order, by their place.

    Raises:
        MeshError: REASON_INVALID_REQUEST when the body is no JSON object.
    """
    try:
        return _scan(body, _decode_long(body))
    except BAD_JSON as error:
        refuse(error)


def _scan(body: bytes, long: _Long) -> list[Member]:
    text = body.decode("latin-1")  # one character per byte: places in it are places in the body
    space = _SPACE.match
    found: list[Member] = []
    place = space(text, space(text).end() + 1).end()  # type: ignore[union-attr] # matches always, be it nothing
    while text[place] != "}":
        start = place
        name, place = _read_value(text, start)
        place = space(text, space(text, place).end() + 1).end()  # type: ignore[union-attr]
        raw = bytes(getattr(long, name)) if name in _LONG else b""
        if len(raw) > 64 and text[place] in '[{"' and body.startswith(raw, place):  # such values end themselves
            end = place + len(raw)
        else:
            _, end = _read_value(text, place)
        found.append(Member(name, start, place, end))
        place = space(text, end).end()  # type: ignore[union-attr]
        if text[place] == ",":
            place = space(text, place + 1).end()  # type: ignore[union-attr]
    return found


def rewrite(body: bytes, set_to: Mapping[str, bytes], drop: Iterable[str] = ()) -> bytes:
    """The object with some members' values replaced (or the members added in front) and some removed.

    Every other byte stays, the separators of removed members excepted.
    """
    all_members = members(body)
    dropped = set(drop)
    kept = [member for member in all_members if member.name not in dropped]
    absent = [name for name in set_to if not any(member.name == name for member in kept)]
    added = b",".join(dumps(name) + b":" + set_to[name] for name in absent)
    if not all_members:
        opening = body.index(b"{") + 1
        return body[:opening] + added + body[opening:]
    before = {after.start: body[member.end : after.start] for member, after in pairwise(all_members)}
    pieces = [body[: all_members[0].start], added]
    for number, member in enumerate(kept):
        if number:
            pieces.append(before[member.start])
        elif added:
            pieces.append(b",")
        value = set_to.get(member.name)
        pieces += [body[member.start : member.end]] if value is None else [body[member.start : member.value], value]
    pieces.append(body[all_members[-1].end :])
    return b"".join(pieces)
