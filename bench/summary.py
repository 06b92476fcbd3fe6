"""Numbers about numbers: percentiles of one load, median and least of several."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of values in ascending order: a value that was measured. 0.0 when there are none."""
    if not ordered:
        return 0.0
    rank = math.ceil(percent / 100 * len(ordered))
    return ordered[min(max(rank, 1), len(ordered)) - 1]


@dataclass(frozen=True, slots=True)
class Spread:
    """How values lie; all in the unit of the values."""

    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    max: float = 0.0

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of values in any order."""
        ordered = sorted(values)
        return cls(*(percentile(ordered, percent) for percent in (50, 90, 99, 100)))
