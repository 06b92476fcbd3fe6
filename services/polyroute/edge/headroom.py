"""Places that stay free for tenants that have little under way: what a busy one must leave when it wants another.

A queue alone is fair to whoever waits, and whoever waits has been slowed down already. So it is remembered for a while
what tenants wanted at once, each counted up to some level; and a tenant that has twice that level leaves as much room
free, so that the first calls of others find a place at once. By levels and not by names: what many tenants never want
at the same time is not kept free for all of them, and the costs do not grow with them. A tenant that is alone is bound
by nothing.
"""

from collections.abc import Callable
from itertools import accumulate
from typing import Final

LEVELS: Final = 10  # of 1, 2, 4, ... 512 calls; of what a tenant has beyond that nothing is kept free for it
FEW: Final = 4  # calls below which a tenant leaves nothing free: it is one of those for whom others do
LATELY: Final = 10.0  # s that a peak is remembered, and up to twice that

_RANKS: Final = 32  # more than the number of calls under way has bits
_LEVELS: Final = range(LEVELS)


class Headroom:
    """What tenants have under way and wait for, and what has to stay free.

    Args:
        clock: Seconds, monotonic.
    """

    __slots__ = ("_clock", "_former", "_peaks", "_running", "_since", "_waiting", "_wanted", "under_way")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        # calls that are their tenant's first, its second, one up to its 4th, 8th, 16th ...
        self._running = [0] * _RANKS
        self._wanted = [0] * _RANKS  # those that wait as well
        self._peaks = [0] * LEVELS
        self._former = [0] * LEVELS
        self._waiting: dict[str, int] = {}
        self.under_way: dict[str, int] = {}
        """Calls of each tenant that has any."""

    def enter(self, tenant: str) -> None:
        """Counts a call that comes and begins."""
        has = self.under_way.get(tenant, 0)
        self.under_way[tenant] = has + 1
        self._running[has.bit_length()] += 1
        self._wanted[(has + self._waiting.get(tenant, 0)).bit_length()] += 1

    def wait(self, tenant: str) -> None:
        """Counts a call that comes and waits."""
        waits = self._waiting.get(tenant, 0)
        self._waiting[tenant] = waits + 1
        self._wanted[(waits + self.under_way.get(tenant, 0)).bit_length()] += 1

    def begin(self, tenant: str) -> None:
        """Counts a call that has waited and begins."""
        has = self.under_way.get(tenant, 0)
        self.under_way[tenant] = has + 1
        self._running[has.bit_length()] += 1
        _less(self._waiting, tenant)

    def end(self, tenant: str) -> None:
        """Counts a call that ends."""
        left = _less(self.under_way, tenant)
        self._running[left.bit_length()] -= 1
        self._wanted[(left + self._waiting.get(tenant, 0)).bit_length()] -= 1

    def give_up(self, tenant: str) -> None:
        """Counts a call that goes without having begun."""
        left = _less(self._waiting, tenant)
        self._wanted[(left + self.under_way.get(tenant, 0)).bit_length()] -= 1

    def note(self) -> None:
        """Remembers what is wanted now; for moments at which room is scarce."""
        if self._clock() - self._since >= LATELY:
            self._turn()
        peaks, wanted, total = self._peaks, self._wanted, 0
        for level in _LEVELS:  # plainly, as this is the quickest: it is done twice in a call
            total += wanted[level]
            if total > peaks[level]:
                peaks[level] = total

    def kept(self, tenant: str) -> int:
        """Places that a call of this tenant has to leave free: what others with little under way wanted more lately."""
        has = self.under_way.get(tenant, 0)
        if has < FEW:
            return 0
        if self._clock() - self._since >= LATELY:
            self._turn()
        peaks, former, running = self._peaks, self._former, self._running
        kept = total = 0
        for level in _LEVELS[: has.bit_length() - 1]:  # those of half of what it has, at most
            total += running[level]
            kept = max(kept, peaks[level] - total, former[level] - total)
        return kept

    def _turn(self) -> None:
        now, current = self._clock(), list(accumulate(self._wanted[:LEVELS]))
        self._former = self._peaks if now - self._since < 2 * LATELY else current
        self._peaks, self._since = current, now


def _less(counts: dict[str, int], tenant: str) -> int:
    left = counts[tenant] - 1
    if left:
        counts[tenant] = left
    else:
        del counts[tenant]
    return left
