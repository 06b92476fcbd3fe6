"""How many credentials that nobody knows may come from one address.

A key has 256 random bits: to guess one is hopeless. What guesses cost is auth's time, which looks each of them up in
its database, and which callers with good keys need as well.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.mesh.gcra import SECOND, Rate
from polyroute.mesh.subscribers import public, subscriber

KEPT: Final = 10_000  # addresses; the one that was heard of longest ago is forgotten


class Strangers:
    """Counts credentials that this edge has not seen before, by address.

    Args:
        per_minute: Unknown ones from one address, all at once or evenly; 0 for no bound.
        clock: Seconds that only grow.
        proxied: The proxies before the door are known, so that each address is a caller's. Otherwise those of private
            networks are spared: everybody's calls may come from a load balancer's.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float], *, proxied: bool) -> None:
        self._rate = Rate(per_minute, burst=per_minute)
        self._clock = clock
        self._proxied = proxied
        self._arrivals: OrderedDict[str, int] = OrderedDict()

    def take(self, address: str) -> None:
        """Counts a credential before anybody is asked for it, so that many at once are no way around.

        Raises:
            MeshError: REASON_RATE_LIMITED, and when to try again.
        """
        if not self._counts(address):
            return
        place, now = subscriber(address), int(self._clock() * SECOND)
        arrival = self._arrivals.get(place, 0)
        if wait := self._rate.wait(arrival, now, 1):
            raise MeshError(
                pb.REASON_RATE_LIMITED, "too many wrong credentials from this address", retry_after=wait / SECOND
            )
        self._arrivals[place] = self._rate.taken(arrival, now, 1)
        self._arrivals.move_to_end(place)
        if len(self._arrivals) > KEPT:
            self._arrivals.popitem(last=False)

    def known(self, address: str) -> None:
        """It was none of those."""
        place = subscriber(address)
        if self._counts(address) and place in self._arrivals:
            self._arrivals[place] = self._rate.returned(self._arrivals[place], 1)

    def _counts(self, address: str) -> bool:
        return bool(self._rate.amount and address and (self._proxied or public(address)))
