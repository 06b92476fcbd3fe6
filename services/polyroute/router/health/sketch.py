"""Percentiles of recent values in little memory: weights by size, each step a fixed factor wider.

The idea and the error bound are DDSketch's (https://arxiv.org/abs/1908.10693). Old values are not taken out; new ones
weigh more instead (forward decay, https://doi.org/10.1109/ICDE.2009.65), and from time to time all is scaled down.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import log
from typing import Final

ERROR: Final = 0.02  # relative
SMALLEST: Final = 1e-2
LARGEST: Final = 1e8

_GAMMA: Final = (1 + ERROR) / (1 - ERROR)
_PER_STEP: Final = 1 / log(_GAMMA)
_MIDDLE: Final = 2 / (1 + _GAMMA)  # of a step, times its upper end: equal relative error to both ends
_UP: Final = 10_001  # added before the fraction is cut off, and subtracted after it: rounds up, negative numbers too
_NOTHING: Final = 1e-6  # of the newest value's weight


class Sketch:
    """How much weight fell into each step. At most about 580 steps, whatever comes."""

    __slots__ = ("_steps",)

    def __init__(self) -> None:
        self._steps: defaultdict[int, float] = defaultdict(float)

    def add(self, values: Iterable[float], weight: float) -> None:
        """Takes in values of the same weight; what is outside the bounds counts as the bound."""
        steps = self._steps
        for value in values:
            if not SMALLEST < value < LARGEST:
                value = min(max(value, SMALLEST), LARGEST)
            steps[int(log(value) * _PER_STEP + _UP)] += weight

    @property
    def weight(self) -> float:
        """Of all values together."""
        return sum(self._steps.values())

    def scale(self, factor: float) -> None:
        """Makes everything lighter; what weighs next to nothing beside 1 goes."""
        kept = {step: weight for step, old in self._steps.items() if (weight := old * factor) > _NOTHING}
        self._steps = defaultdict(float, kept)

    def percentiles(self, shares: Sequence[float]) -> list[float]:
        """For each share, ascending, the least value that at least this share of the weight does not exceed.

        The sketch must not be empty.
        """
        found: list[float] = []
        seen, whole = 0.0, self.weight * (1 - 1e-12)  # sums of floats may fall short by a little
        for step in sorted(self._steps):
            seen += self._steps[step]
            while len(found) < len(shares) and seen >= shares[len(found)] * whole:
                found.append(_GAMMA ** (step - _UP + 1) * _MIDDLE)
        return found
