"""A page of what a vendor keeps, with what is one project's alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import orjson

from polyroute.edge.http.kept import marked
from polyroute.edge.http.pins import Keeper

_PLACES: Final = ("data", "files", "cachedContents")  # where a page has its things
_TOKEN: Final = "pageToken"  # noqa: S105 - a parameter's name
_BACK: Final = "before_id"


@dataclass(frozen=True, slots=True)
class Page:
    """A page as the vendor sent it.

    Attributes:
        value: All of it.
        place: The member that has the things.
    """

    value: Mapping[str, Any]
    place: str

    @classmethod
    def read(cls, body: bytes) -> "Page | None":
        """The page in an answer; None when it is none."""
        try:
            value = orjson.loads(body)
        except ValueError:
            return None
        places = [place for place in _PLACES if isinstance(value, dict) and isinstance(value.get(place), list)]
        return cls(value, places[0]) if places else None

    @property
    def names(self) -> list[str]:
        """The ids of the things in it, in the vendor's words."""
        return [name for thing in self.value[self.place] if (name := _name(thing))]

    def shown(self, own: Mapping[str, bytes], keeper: Keeper) -> bytes:
        """The page with the project's own things alone, under the ids that it knows.

        Args:
            own: The id of each -> fingerprint of the key that made it.
            keeper: Who keeps them.
        """
        things = [
            marked(orjson.dumps(thing), keeper._replace(key_mark=own[name]))
            for thing in self.value[self.place]
            if (name := _name(thing)) in own
        ]
        value = {**self.value, self.place: [orjson.Fragment(thing) for thing in things]}
        ends = {"first_id": things[:1], "last_id": things[-1:]}
        for name in ends.keys() & value.keys():  # those of the vendor's page may be somebody else's
            value[name] = orjson.loads(ends[name][0]).get("id") if ends[name] else None
        return orjson.dumps(value)

    def following(self, query: str) -> str | None:
        """The query of the next page; None when this is the last."""
        asked = dict(parse_qsl(query, keep_blank_values=True))
        names = self.names
        if token := self.value.get("nextPageToken"):
            asked[_TOKEN] = str(token)
        elif not self.value.get("has_more") or not names:
            return None
        elif _BACK in asked:
            asked[_BACK] = names[0]
        else:
            asked["after" if "object" in self.value else "after_id"] = names[-1]  # the two ways of such pages
        return urlencode(asked)


def _name(thing: Any) -> str:
    found = thing.get("id") or thing.get("name") if isinstance(thing, dict) else None
    return found.rpartition("/")[2] if isinstance(found, str) else ""
