"""Lists as administrators ask for them: pages (https://google.aip.dev/158) and filters (https://google.aip.dev/160)."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, Select

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.admin.filters import Fields, condition
from polyroute.auth.people.actors import Reach
from polyroute.mesh.errors import MeshError
from polyroute.mesh.filtering import comparisons, parse

PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1000
FOREIGN: Final = "the page token is not one that this service gave"


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted.

    Attributes:
        size: How many at most.
        after: The last place of the page before; empty for the first page.
        wanted: What must be true of a row, as conditions of a query.
        named: The fields that the filter names.
        reach: Whose things may be shown; None means everybody's.
        oldest: Oldest first; otherwise newest.
    """

    size: int
    after: tuple[Any, ...]
    wanted: tuple[ColumnElement[bool], ...] = ()
    named: frozenset[str] = frozenset()
    reach: Reach | None = None
    oldest: bool = False

    @classmethod
    def of(
        cls, size: int, token: str, text: str, fields: Fields, reach: Reach | None = None, order: str = ""
    ) -> "Page":
        """The page that a request names.

        Raises:
            MeshError: REASON_INVALID_REQUEST, the token is not ours, or the filter or the order cannot be understood.
        """
        node = parse(text)
        wanted = () if node is None else (condition(node, fields),)
        named = frozenset(one.name for one in comparisons(node))
        size = min(size or PAGE_SIZE, MAX_PAGE_SIZE)
        return cls(size, _place(token), wanted, named, reach, oldest_first(order))

    def ordered(self, query: Select[Any], column: ColumnElement[Any]) -> Select[Any]:
        """A query in the page's order, from its place on, with one row more than it holds.

        Args:
            query: What is listed.
            column: A unique one that ascends in time.

        Raises:
            MeshError: REASON_INVALID_REQUEST, the token is that of another list.
        """
        if self.after:
            place = self.after[0]
            if not isinstance(place, column.type.python_type):
                raise _invalid("page_token", FOREIGN)
            query = query.where(column > place if self.oldest else column < place)
        return query.order_by(column if self.oldest else column.desc()).limit(self.size + 1)


def oldest_first(order: str) -> bool:
    """What `order_by` asks for (https://google.aip.dev/132): the order in which things were made, or its reverse.

    Raises:
        MeshError: REASON_INVALID_REQUEST, it asks for another order.
    """
    match order.split():
        case [] | ["create_time", "desc"]:
            return False
        case ["create_time"]:
            return True
        case _:
            raise _invalid("order_by", "the order is create_time or create_time desc")


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
        raise _invalid("page_token", FOREIGN)
    return tuple(place)


def _invalid(param: str, message: str) -> MeshError:
    return MeshError(errors_pb2.REASON_INVALID_REQUEST, message, metadata={"param": param})
