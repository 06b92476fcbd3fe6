"""Things that a vendor keeps, by their paths: which of them a request is about, and what an answer names of them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

import orjson

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.http.pins import Keeper
from polyroute.edge.marks import Named, named
from polyroute.mesh.errors import MeshError

KINDS: Final = ("files", "batches", "uploads", "responses", "conversations", "vector_stores", "messages/batches")
_CACHES: Final = "cachedContents"  # Gemini's, below its provider's address only
_PLACE: Final = re.compile(rf"(.*?/(?:{'|'.join((*KINDS, _CACHES))}))(?:/([^/]+))?(/.*)?")
_SEGMENTS: Final = frozenset({*(kind.rpartition("/")[2] for kind in KINDS), _CACHES.lower()})
_SLASHES: Final = re.compile(r"[/\\]+")
_DISGUISED: Final = re.compile(r"//|[\\;]")
_VERBS: Final = frozenset({"compact", "input_tokens"})  # they stand below `/responses/` where an id might
_CURSORS: Final = frozenset({"after", "before", "after_id", "before_id"})
_ITEMS: Final = ("/items", "/input_items")  # parts of what is kept, whose ids mean something inside it only
_UNLISTED: Final = ("/responses", "/conversations")
_CONTENT: Final = ("/content", "/results")
_SUB_IDS: Final = re.compile(r"(/(?:files|file_batches)/)([^/]+)")
# Members of answers that name what is kept, beside the `id` of the thing itself.
_MEMBERS: Final = frozenset(
    {
        "batch_id",
        "error_file_id",
        "file_id",
        "input_file_id",
        "output_file_id",
        "previous_response_id",
        "vector_store_id",
    }
)
_INNER: Final = frozenset({"file", "conversation"})  # whole things that stand inside others
_AS_PATHS: Final = re.compile(r"(?:.*/)?(?:files|cachedContents)/[^/]+")  # how Google writes ids


@dataclass(frozen=True, slots=True)
class Aim:
    """What a request for a vendor's own API is about.

    Attributes:
        path: In the vendor's words.
        query: In the vendor's words.
        found: What both refer to.
        kept: It is about what a vendor keeps.
        listed: It is about all that the vendor keeps of a kind.
        listable: There are lists of its kind.
        items: It is about parts of one thing.
        content: It is about what is in it, which passes as it is.
    """

    path: str
    query: str
    found: tuple[Named, ...] = ()
    kept: bool = False
    listed: bool = False
    listable: bool = False
    items: bool = False
    content: bool = False


def aim(path: str, query: str, method: str) -> Aim:
    """What a path and a query, percent-encoded, are about.

    Raises:
        MeshError: REASON_INVALID_REQUEST; a vendor could read the path as one of something that is kept, and it is not
            written as such.
    """
    place = _PLACE.fullmatch(path)
    if place is None or "/containers/" in path or (place[1].endswith("/responses") and place[2] in _VERBS):
        _check_plain(path if place is None else "")
        return Aim(path, query)
    before, own, rest = place[1], place[2] or "", place[3] or ""
    if _DISGUISED.search(unquote(unquote(path))):
        raise _unplain()
    _check_plain(before.rpartition("/")[0].removesuffix("/messages"))
    found: list[Named] = []
    if own:
        rest = _SUB_IDS.sub(lambda sub: sub[1] + _plain(sub[2], found), rest)
        found.insert(0, named(unquote(own), "id"))
        path = f"{before}/{_requoted(own, found[0])}{rest}"
    query = _plain_query(query, found, top=not own)
    return Aim(
        path,
        query,
        tuple(found),
        kept=True,
        listed=not own and method == "GET",
        listable=not before.endswith(_UNLISTED),
        items=rest.startswith(_ITEMS),
        content=rest.endswith(_CONTENT),
    )


def _check_plain(path: str) -> None:
    segments = {segment.partition(";")[0] for segment in _SLASHES.split(unquote(unquote(path)).lower())}
    if segments & _SEGMENTS:
        raise _unplain()


def _unplain() -> MeshError:
    return MeshError(pb.REASON_INVALID_REQUEST, "write the path plainly", metadata={"param": "path"})


def _plain(segment: str, found: list[Named]) -> str:
    """An id inside something that is its caller's: it may have a mark of its own, and need not."""
    one = named(unquote(segment), "id")
    if one.suffix:
        found.append(one)
    return _requoted(segment, one)


def _requoted(segment: str, one: Named) -> str:
    return quote(one.own, safe="") if one.suffix else segment


def _plain_query(query: str, found: list[Named], *, top: bool) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    cursors = {at: named(value, name) for at, (name, value) in enumerate(pairs) if name in _CURSORS and value}
    found += [one for one in cursors.values() if top or one.suffix]
    if not any(one.suffix for one in cursors.values()):
        return query
    return urlencode([(name, cursors[at].own if at in cursors else value) for at, (name, value) in enumerate(pairs)])


def marked(body: bytes, keeper: Keeper, *, items: bool = False) -> bytes:
    """A whole JSON answer with marks on what it names; any other as it is.

    Args:
        body: The answer.
        keeper: Who keeps it.
        items: It is a part of what is kept, and has no mark itself.
    """
    for name in names_in(body, items=items):
        quoted = orjson.dumps(name)
        body = body.replace(quoted, quoted[:-1] + keeper.suffix(last_of(name)).encode() + b'"')
    return body


def names_in(body: bytes, *, items: bool = False) -> list[str]:
    """What a whole JSON answer names, as it is written there; nothing in any other."""
    try:
        value = orjson.loads(body)
    except ValueError:
        return []
    return list(dict.fromkeys(_names(value, whole=not items)))


def last_of(name: str) -> str:
    """An id that its vendor writes as a path, by the path's last piece."""
    return name.rpartition("/")[2]


def _names(value: Any, *, whole: bool) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _names(one, whole=whole)
    if not isinstance(value, dict):
        return
    listed = value.get("object") == "list"
    for name, inner in value.items():
        if name in _MEMBERS or (name == "id" and whole and not listed) or _is_path(name, inner):
            yield from _unmarked(inner)
        elif name in _INNER:
            yield from _unmarked(inner) if isinstance(inner, str) else _names(inner, whole=True)
        elif name != "metadata":
            yield from _names(inner, whole=whole and listed and name == "data")


def _is_path(name: str, value: Any) -> bool:
    return name in ("name", "uri") and isinstance(value, str) and _AS_PATHS.fullmatch(value) is not None


def _unmarked(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value and not named(value).suffix:
        yield value
