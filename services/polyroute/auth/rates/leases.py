"""Shares of limits by the names of the limits: what an edge asks for, looked up and counted."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog

from polyroute.auth.rates.limits import CATALOG, RATE_SECONDS, Claim, Counters, Limit, Place, Share
from polyroute.mesh.errors import MeshError

KEPT: Final = 100_000  # limits in memory
FRESH_SECONDS: Final = 10.0  # that a limit is believed: another auth may have changed it

_log = structlog.get_logger("limits")


@dataclass(frozen=True, slots=True)
class Want:
    """What an edge wants of the limit at a place; see `LimitClaim` of the contract."""

    place: Place
    needed: int
    wanted: int
    returned: int = 0
    amount: int = 0


class _Known(NamedTuple):
    limit: Limit | None
    until: float


class Leases:
    """Hands out shares.

    Args:
        counters: Counts.
        find: Reads the limit of a place; None when there is none.
        common: Reads the limits that bind more than one caller.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        counters: Counters,
        find: Callable[[Place], Awaitable[Limit | None]],
        common: Callable[[], Awaitable[list[Limit]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counters = counters
        self._find = find
        self.common = common
        """The limits that bind more than one caller."""
        self._clock = clock
        self._known: dict[Place, _Known] = {}
        self._forgotten = 0
        self._renewals: set[asyncio.Task[None]] = set()

    @property
    def degraded(self) -> bool:
        """Whether limits are counted by each auth alone, because what they count in together does not answer."""
        return self._counters.degraded

    async def lease(self, holder: str, wants: Sequence[Want]) -> list[Share]:
        """A share for each want, in their order; of a limit that was lifted, whatever is wanted."""
        found = [(want, await self._limit(want)) for want in wants]
        claims = [
            Claim(limit, want.needed, max(want.needed, want.wanted), want.returned)
            for want, limit in found
            if limit is not None
        ]
        shares = iter(await self._counters.lease(holder, claims))
        return [_unbound(want) if limit is None else next(shares) for want, limit in found]

    async def close(self) -> None:
        """Ends what is being looked up."""
        for renewal in self._renewals:
            renewal.cancel()
        await asyncio.gather(*self._renewals, return_exceptions=True)

    def forget(self, scope: str) -> None:
        """Has the limits of a scope looked up anew."""
        self._forgotten += 1
        for place in [place for place in self._known if place.scope == scope]:
            del self._known[place]

    async def _limit(self, want: Want) -> Limit | None:
        """The limit at a place; one that is old is used while it is looked up anew: no call waits for the database."""
        place = want.place
        if place.scope == CATALOG:
            return Limit(place, want.amount) if want.amount else None
        known = self._known.get(place)
        if known is None:
            return await self._look_up(place)
        if self._clock() >= known.until:
            self._known[place] = _Known(known.limit, self._clock() + FRESH_SECONDS)
            renewal = asyncio.get_running_loop().create_task(self._renew(place))
            self._renewals.add(renewal)
            renewal.add_done_callback(self._renewals.discard)
        return known.limit

    async def _look_up(self, place: Place) -> Limit | None:
        forgotten = self._forgotten
        limit = await self._find(place)
        if len(self._known) >= KEPT:
            self._known.clear()
        if forgotten == self._forgotten:  # it may have changed while it was read
            self._known[place] = _Known(limit, self._clock() + FRESH_SECONDS)
        return limit

    async def _renew(self, place: Place) -> None:
        try:
            await self._look_up(place)
        except MeshError as error:
            _log.warning("limit not looked up anew", scope=place.scope, reason=error.message)


def _unbound(want: Want) -> Share:
    most = max(want.needed, want.wanted)
    return Share(most, RATE_SECONDS, remaining=most, reset_after=0.0, holders=1)
