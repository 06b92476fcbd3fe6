"""What only shows when the deployments of a model are looked at together: outliers, slow ones, and how many may go.

The outliers' rule and its numbers are those of https://github.com/grpc/proposal/blob/master/A50-xds-outlier-detection.md
(success rate); the limit keeps the ones that are left from being flooded.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Final

PEERS: Final = 5  # with enough requests; fewer have no meaningful spread
REQUESTS: Final = 100  # of the window, for a deployment to be compared
SPREADS: Final = 1.9  # standard deviations below the mean
MOST: Final = 0.5  # share of a model's deployments that may be ejected at once
SLOW: Final = 3.0  # times the median of the others
SLOW_LEAST: Final = 20  # attempts, for a deployment's latency to be compared
SLOW_FLOOR: Final = 0.1


def outliers(windows: Mapping[str, tuple[int, float]]) -> dict[str, float]:
    """The deployments whose success rate is far below their peers'.

    Args:
        windows: Calls and failures of each in the last seconds.

    Returns:
        Their success rates, from 0 to 1.
    """
    rates = {name: 1 - bad / calls for name, (calls, bad) in windows.items() if calls >= REQUESTS}
    if len(rates) < PEERS:
        return {}
    mean = statistics.fmean(rates.values())
    limit = mean - SPREADS * statistics.pstdev(rates.values(), mean)
    return {name: rate for name, rate in rates.items() if rate < limit}


def allowance(members: int) -> int:
    """How many of a model's deployments may be ejected at once."""
    return math.floor(members * MOST)


def ejected(bad: Sequence[tuple[str, float]], members: int) -> frozenset[str]:
    """Which of the bad ones go: the worst, as far as the limit reaches.

    Args:
        bad: Names and success rates, from 0 to 1.
        members: Deployments of the model in all.
    """
    worst = sorted(bad, key=lambda one: (one[1], one[0]))
    return frozenset(name for name, _ in worst[: allowance(members)])


def slowness(latencies: Mapping[str, tuple[int, float]]) -> dict[str, float]:
    """The share of its traffic that a slow deployment keeps, from 0.1 to below 1; those not listed are not slow.

    Args:
        latencies: Number of attempts and smoothed first-token time of each.
    """
    known = {name: value for name, (count, value) in latencies.items() if count >= SLOW_LEAST and value > 0}
    if len(known) < 2:
        return {}
    usual = statistics.median(known.values())
    limit = SLOW * usual
    return {name: max(SLOW_FLOOR, limit / value) for name, value in known.items() if value > limit}
