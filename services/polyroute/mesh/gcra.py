"""The generic cell rate algorithm: a rate with a burst, kept as one number.

The number is the theoretical arrival time, here in nanoseconds: when the next unit would come if all so far had come
evenly spaced. A unit may come as long as that is no further ahead than the burst allows. All arithmetic is in whole
nanoseconds and rounds against the caller, so that no sequence of calls gets more than the rate. Specified as the
virtual scheduling algorithm in ITU-T I.371, annex A.
"""

from dataclasses import dataclass
from typing import Final

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
BURST_SHARE: Final = 6  # of a minute's amount, where nothing else is said: ten seconds' worth


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a minute.

    Attributes:
        amount: Units per minute; 0 lets nothing through.
        burst: Units that may come at one moment after a pause; 0 means a sixth of `amount`, at least 1.
    """

    amount: int
    burst: int = 0

    @property
    def depth(self) -> int:
        """The burst in units."""
        return self.burst or max(1, self.amount // BURST_SHARE)

    def available(self, arrival: int, now: int) -> int:
        """Units that may be taken at `now`; never negative."""
        if not self.amount:
            return 0
        room = now + self._time_of(self.depth) - max(arrival, now)
        return max(0, room * self.amount // MINUTE)

    def taken(self, arrival: int, now: int, units: int) -> int:
        """The arrival time after `units` were taken, whether they were available or not."""
        return max(arrival, now) + self._time_of(units)

    def returned(self, arrival: int, units: int) -> int:
        """The arrival time after `units` that were taken came back."""
        return arrival - units * MINUTE // self.amount if self.amount else arrival

    def wait(self, arrival: int, now: int, units: int) -> int | None:
        """Nanoseconds until `units` may be taken, or a whole burst if they are more; None when that is never."""
        if not self.amount:
            return None
        needed = self._time_of(min(units, self.depth))
        return max(0, max(arrival, now) + needed - self._time_of(self.depth) - now)

    def admits(self, arrival: int, now: int, units: int) -> bool:
        """Whether `units` may be taken at `now`.

        More than a burst may be taken once nothing is owed: the debt keeps the rate exact, and a call that is larger
        than the burst is slow instead of impossible.
        """
        return self.wait(arrival, now, units) == 0

    def reset(self, arrival: int, now: int) -> int:
        """Nanoseconds until the whole burst is there again."""
        return max(0, arrival - now)

    def _time_of(self, units: int) -> int:
        return -(-units * MINUTE // self.amount)
