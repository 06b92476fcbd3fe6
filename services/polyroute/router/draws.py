"""Chance that can be repeated: every draw of a decision comes from a digest of the call's id.

A plan needs a few places only, so members of a group are drawn one by one, each with the probability that its weight
has among those that are left: the cost does not grow with the group.
"""

import hashlib
import math
import struct
from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from polyroute.router.ranking import Group

_NUMBERS: Final = struct.Struct("<16I")  # more than the most attempts and one to explore need
UNIT: Final = 2.0**-32
_MASK: Final = 2**64 - 1
_UNIT_53: Final = 2.0**-53


def numbers(request_id: str) -> tuple[int, ...]:
    """Sixteen whole numbers below 2**32, the same for the same call."""
    return _NUMBERS.unpack(hashlib.blake2b(request_id.encode(), digest_size=64).digest())


def point(text: str, total: int) -> int:
    """A whole number from 0 to below `total`, the same for the same text."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") * total >> 64


class Urn:
    """A group to draw from.

    Args:
        group: Its members and their weights.
    """

    __slots__ = ("_ends", "_weights", "members")

    def __init__(self, group: Group) -> None:
        self.members = group.members
        self._weights = group.weights
        self._ends = list(accumulate(group.weights))

    def draw(self, chances: Iterator[int], count: int, without: int = -1) -> list[int]:
        """Some members, each drawn among those that are left.

        Args:
            chances: One number below 2**32 for each draw that is not forced.
            count: How many; fewer when there are no more.
            without: A member that is not drawn.
        """
        members, ends, weights = self.members, self._ends, self._weights
        taken = [members.index(without)] if without >= 0 and without in members else []
        free = ends[-1] - weights[taken[0]] if taken else ends[-1]
        last = len(members) - 1
        order: list[int] = []
        while len(order) < count and len(taken) < last:
            at = next(chances) * UNIT * free
            for i in taken:  # a stretch that is taken is stepped over
                if at >= ends[i] - weights[i]:
                    at += weights[i]
            i = bisect_right(ends, at)
            if i > last or i in taken:  # rounding may put a point on the edge
                i = next(j for j in range(last, -1, -1) if j not in taken)
            order.append(members[i])
            insort(taken, i)
            free -= weights[i]
        if len(order) < count and len(taken) == last:
            order.append(next(members[i] for i in range(last + 1) if i not in taken))
        return order


class Seats:
    """Who keeps calls together: the same key has the same seat, and few keys move when members or weights change.

    Weighted rendezvous hashing (Thaler and Ravishankar, 1998; weights as of Schindelhauer and Schomaker, 2005): each
    member has its own number for the key, and the best one is the seat.

    Args:
        group: Members and weights.
        names: The members' names, which their numbers come from.
    """

    __slots__ = ("_members",)

    def __init__(self, group: Group, names: Sequence[str]) -> None:
        self._members = [
            (member, weight, _number(names[member]))
            for member, weight in zip(group.members, group.weights, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._members)

    def of(self, key: str) -> int:
        """The member that calls with this key share."""
        number = _number(key)
        return max(self._members, key=lambda one: one[1] / -math.log(_mixed(number ^ one[2])))[0]


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _mixed(number: int) -> float:
    """A number strictly between 0 and 1 that has nothing to do with its neighbours': the finalizer of SplitMix64."""
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    number = (number ^ number >> 27) * 0x94D049BB133111EB & _MASK
    return ((number ^ number >> 31) >> 11 | 1) * _UNIT_53
