"""Shares of limits by the names of the limits: what an edge asks for, looked up and counted."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from polyroute.auth.rates.limits import RATE_SECONDS, Claim, Counters, Limit, Place, Share

KEPT: Final = 100_000  # limits in memory


@dataclass(frozen=True, slots=True)
class Want:
    """What an edge wants of the limit at a place; see `LimitClaim` of the contract."""

    place: Place
    needed: int
    wanted: int
    returned: int = 0


class Leases:
    """Hands out shares.

    Args:
        counters: Counts.
        find: Reads the limit of a place; None when there is none.
    """

    def __init__(self, counters: Counters, find: Callable[[Place], Awaitable[Limit | None]]) -> None:
        self._counters = counters
        self._find = find
        self._known: dict[Place, Limit | None] = {}

    async def lease(self, holder: str, wants: Sequence[Want]) -> list[Share]:
        """A share for each want, in their order; of a limit that was lifted, whatever is wanted."""
        found = [(want, await self._limit(want.place)) for want in wants]
        claims = [
            Claim(limit, want.needed, max(want.needed, want.wanted), want.returned)
            for want, limit in found
            if limit is not None
        ]
        shares = iter(await self._counters.lease(holder, claims))
        return [_unbound(want) if limit is None else next(shares) for want, limit in found]

    def forget(self, scope: str) -> None:
        """Has the limits of a key, project or account looked up anew."""
        for place in [place for place in self._known if place.scope == scope]:
            del self._known[place]

    async def _limit(self, place: Place) -> Limit | None:
        if place not in self._known:
            if len(self._known) >= KEPT:
                self._known.clear()
            self._known[place] = await self._find(place)
        return self._known[place]


def _unbound(want: Want) -> Share:
    most = max(want.needed, want.wanted)
    return Share(most, RATE_SECONDS, remaining=most, reset_after=0.0, holders=1)
