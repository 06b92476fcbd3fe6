"""What a call's remaining time allows: deployments that would not make it are not tried."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from polyroute.router.health.scores import Figures

LEAST: Final = 0.1  # s; with less left, nothing is begun
SHARE: Final = 0.95  # of calls that have to make it
TRUSTED: Final = 5.0  # values; fewer are no ground for leaving a deployment out


class Timely(NamedTuple):
    """Whether a deployment makes it.

    Args:
        passed: It does, or nobody knows.
        seconds: What 95 of 100 calls take there; 0 when unknown.
    """

    passed: bool
    seconds: float


def expected(figures: Figures, output_tokens: int = 0) -> float:
    """Seconds that 95 of 100 calls take; 0 when unknown.

    Args:
        figures: Of the deployment.
        output_tokens: How long an answer is expected; 0 takes the answers that were measured.
    """
    if figures.weight < TRUSTED:
        return 0.0
    if output_tokens and figures.first_token is not None and figures.speed is not None:
        return figures.first_token.at(SHARE) / 1e3 + output_tokens / figures.speed.p50
    return 0.0 if figures.total is None else figures.total.at(SHARE) / 1e3


def timely(candidates: Sequence[Figures], left: float, output_tokens: int = 0) -> list[Timely]:
    """Which of some deployments can answer in the time that is left.

    When none can, the quickest of them passes all the same: 5 of 100 of its calls may be all that is late.

    Args:
        candidates: Their figures.
        left: Seconds until the call's deadline.
        output_tokens: As in `expected`.
    """
    if left < LEAST:
        return [Timely(False, expected(figures, output_tokens)) for figures in candidates]
    found = [_timely(expected(figures, output_tokens), left) for figures in candidates]
    if found and not any(one.passed for one in found):
        quickest = min(range(len(found)), key=lambda place: found[place].seconds)
        found[quickest] = Timely(True, found[quickest].seconds)
    return found


def _timely(seconds: float, left: float) -> Timely:
    return Timely(seconds <= left, seconds)


def first_token_seconds(longest: float, left: float, attempts: int) -> float:
    """How long an attempt may wait for its first content, so that the ones after it have their time too.

    Args:
        longest: What the plan allows.
        left: Seconds until the call's deadline.
        attempts: That may still be made, this one included; at least 1.
    """
    return min(longest, left / attempts)
