"""Percentiles of many values in little memory: counts of values by size, each step a fixed factor wider.

The idea and the error bound are DDSketch's (https://arxiv.org/abs/1908.10693): with steps of gamma = (1+a)/(1-a), the
middle of a step is within the share `a` of every value in it. Counts add and subtract, so that a window of time can
take in what is new and let go of what is old.
"""

from collections import defaultdict
from collections.abc import Sequence
from math import ceil, log
from typing import Final

ERROR: Final = 0.015  # relative; the contract promises 0.02
SMALLEST: Final = 1e-3
LARGEST: Final = 1e9

_GAMMA: Final = (1 + ERROR) / (1 - ERROR)
_PER_STEP: Final = 1 / log(_GAMMA)
_MIDDLE: Final = 2 / (1 + _GAMMA)  # of a step, times its upper end: the value with equal relative error to both ends


def step_of(value: float) -> int:
    """The step that holds `value`; values outside `SMALLEST` to `LARGEST` fall into the outermost ones."""
    return ceil(log(min(max(value, SMALLEST), LARGEST)) * _PER_STEP)


class Sketch:
    """How many values fell into each step. At most about 930 steps, whatever comes."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps: defaultdict[int, int] = defaultdict(int)

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self.steps.values())

    def add(self, step: int) -> None:
        """Counts one value of this step."""
        self.steps[step] += 1

    def subtract(self, other: "Sketch") -> None:
        """Takes back what `other` holds, all of which was added here too."""
        for step, count in other.steps.items():
            left = self.steps[step] - count
            if left:
                self.steps[step] = left
            else:
                del self.steps[step]

    def percentiles(self, shares: Sequence[float]) -> list[float]:
        """For each share, ascending, the smallest value that at least this share of the values does not exceed.

        The sketch must not be empty.
        """
        found: list[float] = []
        count, seen = self.count, 0
        for step in sorted(self.steps):
            seen += self.steps[step]
            while len(found) < len(shares) and seen >= ceil(shares[len(found)] * count):
                found.append(_GAMMA**step * _MIDDLE)
        return found
