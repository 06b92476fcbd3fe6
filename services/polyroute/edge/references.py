"""What of a vendor's a request refers to: files, stored answers, caches, sealed reasoning.

Most requests refer to nothing, which a search for a few words tells. Any other is read whole, names written with
escapes included; what callers may fill as they like (arguments of tools, schemas, metadata) is not looked into.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Media, Part
from polyroute.api.modality.v1.modality_pb2 import Task
from polyroute.dialects import jsontools
from polyroute.edge.marks import Named, named

_IDS: Final = frozenset(
    {
        "cachedContent",
        "cached_content",
        "file_id",
        "input_file_id",
        "previous_response_id",
        "training_file",
        "validation_file",
        "vector_store_id",
    }
)
_LISTS: Final = frozenset({"file_ids", "vector_store_ids"})
_URIS: Final = frozenset({"fileUri", "file_uri"})
SEALED: Final = "encrypted_content"
CONVERSATION: Final = "conversation"
_NAMES: Final = _IDS | _LISTS | _URIS | {SEALED, CONVERSATION}
# A vendor's own files; other addresses, such as those of films, are everybody's.
_OWN_FILE: Final = re.compile(r"(?:.*/v1(?:alpha|beta)?/)?files/[^/]+", re.DOTALL)
_FREE: Final = frozenset({"args", "arguments", "functionResponse", "function_response", "input_schema", "metadata"})
_FREE_TOO: Final = frozenset({"parameters", "properties", "responseSchema", "responseJsonSchema", "schema"})


def _beginning(*names: str) -> re.Pattern[bytes]:
    """How members of these names begin, for `jsontools.holds`."""
    return re.compile(b'"(?:%b)' % "|".join(names).encode())


# Without one of these members a body refers to nothing, by its format.
_FILES: Final = _beginning("file_id")
_OPENAI: Final = _beginning("file_id", "vector_store")
_RESPONSES: Final = _beginning("file_id", "previous_response_id", 'conversation"', "vector_store")
_GEMINI: Final = _beginning("fileUri", "file_uri", "cached")
_ANY: Final = _beginning(*sorted(_NAMES - {SEALED}))
_SIGNS: Final[Mapping[str, re.Pattern[bytes] | None]] = {
    "openai.chat": _OPENAI,
    "openai.responses": _RESPONSES,
    "openai.compact": _RESPONSES,
    "openai.input_tokens": _RESPONSES,
    "anthropic.messages": _FILES,
    "anthropic.count_tokens": _FILES,
    "gemini.generate": _GEMINI,
    "gemini.count_tokens": _GEMINI,
    "openai.completions": None,
    "openai.embeddings": None,
}
_UNSEALED: Final = _SIGNS.keys() - {"openai.responses", "openai.compact", "openai.input_tokens"}
_QUOTED: Final = b'"encrypted_content"'
_SUFFIX: Final = re.compile(rb'@[^@~\s"\\]{1,128}~[A-Za-z0-9_-]{32}(?=")')
_BEFORE: Final = re.compile(rb'"encrypted_content"[ \t\r\n]*:[ \t\r\n]*$')
_NEAR: Final = 64  # bytes before a value in which its name is looked for
_ESCAPED: Final = re.compile(rb"\\u00(?:4[3cC]|55|49|5[fF]|[67][0-9a-fA-F])")  # a letter of one of these names


def in_body(body: bytes, dialect: str = "") -> list[Named]:
    """What a JSON body refers to.

    Args:
        body: The request, which is JSON of bounded depth.
        dialect: Its format; empty when it is unknown.

    Raises:
        MeshError: REASON_INVALID_REQUEST, two parsers could find different things in it.
    """
    signs = _SIGNS.get(dialect, _ANY)
    if not (signs is not None and jsontools.holds(body, signs)) and not _disguised(body):
        return list(_sealed(body)) if dialect not in _UNSEALED and _QUOTED in body else []
    try:
        return list(dict.fromkeys(_walked(json.loads(body, object_pairs_hook=_once))))
    except (ValueError, RecursionError):
        raise jsontools.invalid("the request body is not valid JSON, or nested too deep") from None


def _disguised(body: bytes) -> bool:
    """Whether letters are written as escapes, of which no encoder makes any but to deceive."""
    return b"\\" in body and b"\\u00" in body and _ESCAPED.search(body) is not None  # the first is by far the quickest


def in_typed(body: ChatRequest | Task) -> list[Named]:
    """What a typed request refers to."""
    return [named(media.file_id, "file_id") for media in _medias(body) if media.file_id]


def without_marks(body: bytes, found: Iterable[Named]) -> bytes:
    """A body in the vendor's own words."""
    gone = {one.suffix.encode() for one in found if one.suffix}
    return _SUFFIX.sub(lambda mark: b"" if mark[0] in gone else mark[0], body) if gone else body


def take_marks_out(body: ChatRequest | Task) -> None:
    """Puts a typed request into the vendor's own words."""
    for media in _medias(body):
        if media.file_id:
            media.file_id = named(media.file_id).own


def _medias(body: ChatRequest | Task) -> Iterator[Media]:
    """Every picture, sound and document of a typed request."""
    if isinstance(body, ChatRequest):
        for message in body.messages:
            yield from _of_parts(message.parts)
    elif body.HasField("count_tokens"):
        yield from _medias(body.count_tokens.chat)
    elif body.HasField("image"):
        yield from body.image.images
        if body.image.HasField("mask"):
            yield body.image.mask


def _of_parts(parts: Iterable[Part]) -> Iterator[Media]:
    for part in parts:
        kind = part.WhichOneof("part")
        if kind in ("image", "audio", "file"):
            yield getattr(part, kind).media
        elif kind == "tool_result":
            yield from _of_parts(part.tool_result.parts)


def _sealed(body: bytes) -> Iterator[Named]:
    """What is sealed and has a mark, without reading the rest: agents send all of it with every turn."""
    for mark in _SUFFIX.finditer(body):
        start = body.rfind(b'"', 0, mark.start())
        if _BEFORE.search(body, max(0, start - _NEAR), start):
            yield named(body[start + 1 : mark.end()].decode("utf-8", "surrogateescape"), SEALED)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object none of whose members that count here stands in it twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = {name for name in _NAMES & found.keys() if sum(name == one for one, _ in pairs) > 1}
        if twice:
            name = min(twice)
            raise jsontools.invalid(f"{name} stands twice in one object", name)
    return found


def _walked(value: Any) -> Iterator[Named]:
    if isinstance(value, list):
        for one in value:
            yield from _walked(one)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name in _NAMES and (ids := list(_ids(name, inner))):
                yield from ids
            elif not _is_free(name, inner):
                yield from _walked(inner)


def _is_free(name: str, value: Any) -> bool:
    """Whether callers may fill a member as they like; `input` of a tool is an object, that of a request is none."""
    return name in _FREE or name in _FREE_TOO or (name == "input" and isinstance(value, dict))


def _ids(name: str, value: Any) -> Iterator[Named]:
    if name == CONVERSATION and isinstance(value, dict):
        value = value.get("id")
    if name in _LISTS and isinstance(value, list):
        yield from (named(one, name) for one in value if isinstance(one, str))
    if not isinstance(value, str) or not value:
        return
    if name in _URIS:
        if _OWN_FILE.fullmatch(named(value).own):
            yield _by_last(named(value, name))
    elif name in ("cachedContent", "cached_content"):
        yield _by_last(named(value, name))
    elif name != SEALED or named(value).suffix:  # what is sealed needs no mark to belong to whoever has it
        yield named(value, name)


def _by_last(one: Named) -> Named:
    """An id that its vendor writes as a path, by the path's last piece."""
    return one._replace(own=one.own.rpartition("/")[2])
