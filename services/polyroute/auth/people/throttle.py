"""How often somebody may try: by whom they say they are, by where they come from, and by both.

An attempt is taken before it is made, so that many at once are no way around, and given back when it succeeds. Where
from and who together are bound most tightly: whoever tries somebody else's name from elsewhere shuts that person out
only when many addresses do so.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError
from polyroute.mesh.gcra import SECOND, Rate
from polyroute.mesh.subscribers import subscriber

BOTH: Final = Rate(2, burst=5)  # attempts a minute
NAME: Final = Rate(10, burst=50)
ADDRESS: Final = Rate(20, burst=40)
KEPT: Final = 20_000

Place = tuple[str, bytes]


class Throttle:
    """Counts attempts.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._arrivals: OrderedDict[Place, int] = OrderedDict()

    def take(self, name: str, address: str) -> "Attempt":
        """An attempt; of an address that nobody knows, only the name is counted.

        Raises:
            MeshError: REASON_RATE_LIMITED, and when to try again.
        """
        address = subscriber(address)
        rates = [(_place("name", name), NAME)] if name else []
        if address:
            rates.append((_place("address", address), ADDRESS))
        if name:  # without an address all who give none are one
            rates.append((_place("both", name, address), BOTH))
        now = int(self._clock() * SECOND)
        waits = [rate.wait(self._arrivals.get(place, 0), now, 1) or 0 for place, rate in rates]
        if any(waits):
            raise MeshError(errors_pb2.REASON_RATE_LIMITED, "too many attempts", retry_after=max(waits) / SECOND)
        for place, rate in rates:
            self._put(place, rate.taken(self._arrivals.get(place, 0), now, 1))
        return Attempt(self, rates)

    def give_back(self, rates: list[tuple[Place, Rate]]) -> None:
        """Undoes an attempt."""
        for place, rate in rates:
            if place in self._arrivals:
                self._put(place, rate.returned(self._arrivals[place], 1))

    def _put(self, place: Place, arrival: int) -> None:
        self._arrivals[place] = arrival
        self._arrivals.move_to_end(place)
        if len(self._arrivals) > KEPT:
            self._arrivals.popitem(last=False)


class Attempt:
    """An attempt that was counted."""

    def __init__(self, throttle: Throttle, rates: list[tuple[Place, Rate]]) -> None:
        self._throttle = throttle
        self._rates = rates

    def succeeded(self) -> None:
        """It was no guess."""
        self._throttle.give_back(self._rates)


def _place(kind: str, *parts: str) -> Place:
    return kind, blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
