"""Lists as administrators ask for them: pages (https://google.aip.dev/158) and filters (https://google.aip.dev/160)."""

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError

PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1000

_COMPARISON: Final = re.compile(r"""([a-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))(?:\s+AND\s+|\s*$)""")
_ESCAPED: Final = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted.

    Attributes:
        size: How many at most.
        after: The last place of the page before; empty for the first page.
        wanted: Field -> value: only what has all of them.
    """

    size: int
    after: tuple[Any, ...]
    wanted: Mapping[str, str]

    @classmethod
    def of(cls, size: int, token: str, text: str, fields: Collection[str]) -> "Page":
        """The page that a request names.

        Raises:
            MeshError: REASON_INVALID_REQUEST, the token is not ours or the filter cannot be understood.
        """
        return cls(min(size or PAGE_SIZE, MAX_PAGE_SIZE), _place(token), filtered(text, fields))


def filtered(text: str, fields: Collection[str]) -> Mapping[str, str]:
    """What a filter compares: `name = "value"`, several joined by AND.

    Raises:
        MeshError: REASON_INVALID_REQUEST, it says something else, or names a field that cannot be asked for.
    """
    found: dict[str, str] = {}
    place, text = 0, text.strip()
    while place < len(text):
        match = _COMPARISON.match(text, place)
        if match is None:
            raise _invalid("filter", 'a filter is comparisons such as name = "value", joined by AND')
        name, quoted, bare = match.groups()
        if name not in fields:
            raise _invalid("filter", f"cannot filter by {name}: known are {', '.join(sorted(fields))}")
        found[name] = bare if quoted is None else _ESCAPED.sub(r"\1", quoted)
        place = match.end()
    return found


def token(*place: Any) -> str:
    """Asks for what comes after a place."""
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode()


def _place(text: str) -> tuple[Any, ...]:
    if not text:
        return ()
    try:
        place = orjson.loads(base64.b64decode(text, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        place = None
    if not isinstance(place, list) or not place or not all(isinstance(part, str | int) for part in place):
        raise _invalid("page_token", "the page token is not one that this service gave")
    return tuple(place)


def _invalid(param: str, message: str) -> MeshError:
    return MeshError(errors_pb2.REASON_INVALID_REQUEST, message, metadata={"param": param})
