"""The pass-through of a request: the client's own bytes, with the model's name and little else changed."""

import re
from typing import Final

import msgspec

from polyroute.api.chat.v1.chat_pb2 import RequestFacts
from polyroute.dialects import jsontools
from polyroute.dialects.dialect import NOTHING

_MODEL: Final = b'"model"'
_AFTER_NAME: Final = re.compile(rb'[ \t\n\r]*:[ \t\n\r]*"(?:[^"\\]|\\.)*"')
_WINDOW: Final = 4096  # bytes at either end of a body in which the model's name usually stands
_SMALL: Final = 65536  # below this, searching the whole body for a name is cheaper than an outline of it
_USAGE: Final = b'{"include_usage":true}'


class _Options(msgspec.Struct):
    stream_options: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_options: Final = msgspec.json.Decoder(_Options).decode


def patch_request(
    body: bytes, facts: RequestFacts, *, model: str, ask_usage: bool, drop: frozenset[str] = NOTHING
) -> bytes:
    """See `dialect.Dialect.patch_request`.

    `read_facts` has refused a body in which `model` or `stream_options` stands twice or under an escaped name, so the
    first place found at the top level is the only one.
    """
    name = jsontools.dumps(model)
    ask = ask_usage and facts.stream and not facts.stream_usage
    place = None
    if not (drop and _may_hold(body, drop)) and not (ask and _has_options(body)):
        place = _model_value(body)
    if place is None:
        return _patch_slowly(body, name, ask, drop)
    value, end = place
    if ask:
        name += b',"stream_options":' + _USAGE
    if len(body) < _SMALL:
        return body[:value] + name + body[end:]
    whole = memoryview(body)  # one copy of what is large
    return b"".join((whole[:value], name, whole[end:]))


def _may_hold(body: bytes, names: frozenset[str]) -> bool:
    return len(body) >= _SMALL or any(b'"' + name.encode() + b'"' in body for name in names)


def _has_options(body: bytes) -> bool:
    if len(body) < _SMALL:
        return b'"stream_options"' in body
    return _decode_options(body).stream_options is not msgspec.UNSET


def _model_value(body: bytes) -> tuple[int, int] | None:
    """Where the value of the top-level `model` stands, if it is near either end and easy to tell."""
    for found in (body.find(_MODEL, 0, _WINDOW), body.rfind(_MODEL, max(0, len(body) - _WINDOW))):
        if found < 0 or body[found - 1 : found] == b"\\":
            continue
        after = _AFTER_NAME.match(body, found + len(_MODEL))
        if after is None:
            continue
        if found <= len(body) - after.end():
            top = jsontools.depth_change(body[:found]) == 1
        else:
            top = jsontools.depth_change(body[after.end() :]) == -1
        if top:
            return body.index(b'"', found + len(_MODEL)), after.end()
    return None


def _patch_slowly(body: bytes, name: bytes, ask: bool, drop: frozenset[str]) -> bytes:
    changes = {"model": name}
    if ask:
        options = jsontools.members_of(body).get("stream_options")
        changes["stream_options"] = _with_usage(bytes(options)) if options is not None else _USAGE
    return jsontools.rewrite(body, changes, drop - changes.keys())


def _with_usage(options: bytes) -> bytes:
    if not options.startswith(b"{"):
        return _USAGE  # null: the client left it to us
    return jsontools.rewrite(options, {"include_usage": b"true"})
