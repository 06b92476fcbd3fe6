"""Live figures of a deployment, out of what metrics pushes and what this process has just seen itself.

Metrics knows every process's attempts of the last 1, 5 and 30 minutes, about a second late; the process's own attempts
are known at once, and the last seconds of them weigh most. A figure starts from what is usual for the model (the pool)
and is moved towards 30 minutes, 5 minutes, 1 minute and the own attempts in turn, each as far as its number of values
carries: t = n / (n + k). So few values stay near the wider window, many speak for themselves, and what is not renewed
loses its n with time and gives way. Latencies and speeds are blended by their logarithms. What nobody has measured is
unknown and said as such.
"""

import math
from collections.abc import Iterable, Iterator
from statistics import NormalDist
from typing import Final, NamedTuple

from polyroute.api.metrics.v1.metrics_pb2 import DeploymentStats, Percentiles, WindowStats
from polyroute.router.health.outcomes import Outcome
from polyroute.router.health.sketch import Sketch

HALF_LIFE: Final = 20.0  # s, of the own attempts' weight
PRIOR: Final = 10.0  # k: values that weigh as much as what was known before
A_SECOND: Final = 32  # own values a second that are looked at; of more, these stand for all
FEW: Final = 5.0  # values of the last minute; fewer make a figure stale
TRUSTED: Final = 20.0  # values that make a deployment's figures a part of the pool
SHARES: Final = (0.5, 0.9, 0.99)
LEAST_GENERATION: Final = 10.0  # ms; a shorter answer came in one read, and its speed would be the network's
_LENGTHS: Final = (60.0, 300.0, 1800.0)  # s, of metrics' windows
_SMOOTHING: Final = 0.1  # of the average: what one value moves it
_HEAVY: Final = 1e6  # times the first weight: time to scale down
_LATELY: Final = 5  # minutes
_LEAST_VALUES: Final = 0.5  # of a window; what is left of less has faded away
_NORMAL: Final = NormalDist()
_Z50, _Z90, _Z99 = (_NORMAL.inv_cdf(share) for share in SHARES)


class Spread(NamedTuple):
    """Percentiles of a figure."""

    p50: float
    p90: float
    p99: float

    def at(self, share: float) -> float:
        """The value that this share of all does not exceed, from 0.5 to below 1.

        Between the known percentiles the logarithms are taken for normally distributed.
        """
        z = _NORMAL.inv_cdf(share)
        low, high = ((self.p50, _Z50), (self.p90, _Z90)) if z <= _Z90 else ((self.p90, _Z90), (self.p99, _Z99))
        part = (z - low[1]) / (high[1] - low[1])
        return math.exp((1 - part) * math.log(low[0]) + part * math.log(high[0]))


class Figures(NamedTuple):
    """Live figures of one deployment; None where unknown.

    Args:
        first_token: Milliseconds to the first content of a stream.
        total: Milliseconds to the end.
        speed: Tokens per second after the first.
        success: Share of attempts without a fault of the deployment's, from 0 to 1.
        in_flight: This process's attempts under way.
        retry_after: Seconds that the deployment is still to be left alone; 0 when it is not.
        weight: Values of a minute that stand behind the figures, of five minutes at most; below `FEW` they are stale.
        age: Seconds since the newest value; infinite when there is none.
    """

    first_token: Spread | None = None
    total: Spread | None = None
    speed: Spread | None = None
    success: float | None = None
    in_flight: int = 0
    retry_after: float = 0.0
    weight: float = 0.0
    age: float = math.inf

    @property
    def stale(self) -> bool:
        """Whether so little was seen lately that the figures may no longer hold."""
        return self.weight < FEW


UNKNOWN: Final = Figures()


class Pool(NamedTuple):
    """What is usual among the deployments of a model; None where nobody knows."""

    first_token: Spread | None = None
    total: Spread | None = None
    speed: Spread | None = None
    success: float | None = None


NO_POOL: Final = Pool()


class Recent:
    """The own attempts at one deployment, the newest weighing most.

    The work of a second is bounded: of many attempts the first `A_SECOND` stand for all.

    Attributes:
        last: When the newest value came; negative infinity when there is none.
    """

    __slots__ = (
        "_all",
        "_count",
        "_first",
        "_good",
        "_new",
        "_since",
        "_smoothed",
        "_speed",
        "_streamed",
        "_total",
        "_unit",
        "_until",
        "last",
    )

    def __init__(self, now: float) -> None:
        self.last = -math.inf
        self._streamed = 0
        self._smoothed = 0.0
        self._first = Sketch()
        self._total = Sketch()
        self._speed = Sketch()
        self._good = 0.0
        self._all = 0.0
        self._since = now
        self._unit = 1.0  # what a value of now weighs
        self._until = now  # when that is next looked at
        self._count = 0  # good ones that were not taken in yet
        self._new: list[Outcome] = []  # the first of them, which stand for all

    def good(self, outcome: Outcome, now: float) -> None:
        """An attempt ended without a fault."""
        if now >= self._until:
            self._advance(now)
        self.last = now
        self._count += 1
        if len(self._new) < A_SECOND:
            self._new.append(outcome)

    def bad(self, now: float) -> None:
        """One ended with a fault: it is no measure of time."""
        if now >= self._until:
            self._advance(now)
        self.last = now
        self._all += self._unit

    @property
    def success(self) -> float:
        """Share of attempts without a fault; 1 when there were none."""
        self._take()
        return self._good / self._all if self._all else 1.0

    def smoothed(self) -> tuple[int, float]:
        """How many first-token times there were, and their exponentially weighted average in ms."""
        self._take()
        return self._streamed, self._smoothed

    def counts(self, now: float) -> tuple[float, float]:
        """How many attempts of now went well, and how many there were."""
        self._advance(now)
        return self._good / self._unit, self._all / self._unit

    def figures(self, now: float) -> "Own":
        """What the own attempts say now."""
        self._advance(now)
        return Own(
            self._all / self._unit,
            self.success,
            self._spread(self._first),
            self._spread(self._total),
            self._spread(self._speed),
        )

    def _spread(self, sketch: Sketch) -> tuple[Spread | None, float]:
        """The percentiles of one of the sketches, and how many values of now it weighs."""
        values = sketch.weight / self._unit
        if values < _LEAST_VALUES:
            return None, 0.0
        return Spread(*sketch.percentiles(SHARES)), values

    def _advance(self, now: float) -> None:
        """Takes in what is new, and brings the weight of newer values up to date: once a second is enough."""
        self._take()
        self._unit = 2.0 ** ((now - self._since) / HALF_LIFE)
        self._until = now + 1.0
        if self._unit > _HEAVY:
            factor = 1 / self._unit
            for sketch in (self._first, self._total, self._speed):
                sketch.scale(factor)
            self._good *= factor
            self._all *= factor
            self._since = now
            self._unit = 1.0

    def _take(self) -> None:
        """Takes in what is new."""
        if not self._count:
            return
        new, weight = self._new, self._count * self._unit
        self._new, self._count = [], 0
        self._good += weight
        self._all += weight
        weight /= len(new)
        totals: list[float] = []
        firsts: list[float] = []
        speeds: list[float] = []
        for one in new:
            first, total, tokens = one.first_token_ms, one.total_ms, one.output_tokens
            if total > 0:
                totals.append(total)
            if first > 0:
                firsts.append(first)
                if tokens > 1 and total - first >= LEAST_GENERATION:
                    speeds.append((tokens - 1) * 1e3 / (total - first))
        self._total.add(totals, weight)
        self._first.add(firsts, weight)
        self._speed.add(speeds, weight)
        self._smooth(firsts)

    def _smooth(self, firsts: list[float]) -> None:
        for first in firsts:
            self._smoothed += (first - self._smoothed) * (_SMOOTHING if self._streamed else 1.0)
            self._streamed += 1


class Own(NamedTuple):
    """What the own attempts at a deployment say.

    Args:
        attempts: How many attempts of now they weigh.
        success: Share of those without a fault, from 0 to 1.
        first_token: Percentiles and how many values of now stand behind them; so are the others.
    """

    attempts: float
    success: float
    first_token: tuple[Spread | None, float]
    total: tuple[Spread | None, float]
    speed: tuple[Spread | None, float]


def merged(recent: Recent, pushed: DeploymentStats | None, pushed_at: float, pool: Pool, now: float) -> Figures:
    """The figures of one deployment, but for what is under way and cooling.

    Args:
        recent: The own attempts.
        pushed: What metrics said last of it; None when it said nothing.
        pushed_at: When that came.
        pool: What is usual for the model.
        now: The time.
    """
    own = recent.figures(now)
    windows = list(_windows(pushed, now - pushed_at))
    if own.attempts < _LEAST_VALUES and not windows:
        return UNKNOWN
    return Figures(
        first_token=_spread(_first_tokens(windows), own.first_token, pool.first_token),
        total=_spread(_totals(windows), own.total, pool.total),
        speed=_spread(_speeds(windows), own.speed, pool.speed),
        success=_success(windows, own.success, own.attempts, pool.success),
        weight=max(own.attempts, _per_minute(windows, now - pushed_at)),
        age=min(now - recent.last, _age(windows) + now - pushed_at),
    )


def pool_of(members: Iterable[Figures]) -> Pool:
    """What is usual among some deployments: the median of those that are known well."""
    known = [figures for figures in members if figures.weight >= TRUSTED]
    return Pool(
        _middle([figures.first_token for figures in known]),
        _middle([figures.total for figures in known]),
        _middle([figures.speed for figures in known]),
        _median([figures.success for figures in known if figures.success is not None]),
    )


_Window = tuple[WindowStats, float, float]  # with what is left of it, and how many minutes it is long


def _windows(pushed: DeploymentStats | None, age: float) -> Iterator[_Window]:
    """The windows of which something is left, the longest first."""
    if pushed is None:
        return
    windows = (pushed.thirty_minutes, pushed.five_minutes, pushed.one_minute)
    for window, length in zip(windows, reversed(_LENGTHS), strict=True):
        fade = _faded(age, length)
        if window.attempts * fade >= _LEAST_VALUES:
            yield window, fade, length / 60


def _per_minute(windows: list[_Window], age: float) -> float:
    """Values per minute, of five minutes at most: what is older is no sign that figures still hold."""
    counts = [window.attempts / minutes for window, _, minutes in windows if minutes <= _LATELY]
    return max(counts, default=0.0) * _faded(age, 60.0)


def _faded(age: float, seconds: float) -> float:
    """What is left of a value's weight so many seconds after the push; one push a second is what is usual."""
    return math.exp2(-max(age - 1.0, 0.0) / seconds)


def _age(windows: list[_Window]) -> float:
    """Seconds that the newest value may be old, by the shortest window that has any."""
    if not windows:
        return math.inf
    longest = (0.0, 60.0, 300.0)
    return next(age for age, minutes in zip(longest, (1, 5, 30), strict=True) if windows[-1][2] <= minutes)


_Level = tuple[Percentiles, float]


def _first_tokens(windows: list[_Window]) -> list[_Level]:
    return [(window.first_token_milliseconds, fade) for window, fade, _ in windows]


def _totals(windows: list[_Window]) -> list[_Level]:
    return [(window.total_milliseconds, fade) for window, fade, _ in windows]


def _speeds(windows: list[_Window]) -> list[_Level]:
    return [(window.tokens_per_second, fade) for window, fade, _ in windows]


def _spread(levels: list[_Level], own: tuple[Spread | None, float], pool: Spread | None) -> Spread | None:
    """One figure, moved from the pool towards each level in turn; None where no level knows it."""
    found, known = pool, False
    for percentiles, fade in levels:
        if percentiles.count:
            found = blended(found, Spread(percentiles.p50, percentiles.p90, percentiles.p99), percentiles.count * fade)
            known = True
    if own[0] is not None:
        return blended(found, own[0], own[1])
    return found if known else None


def blended(prior: Spread | None, seen: Spread, values: float) -> Spread:
    """What was known before, moved towards what so many values say."""
    if prior is None:
        return seen
    share = values / (values + PRIOR)
    if share > 0.99 or min(*prior, *seen) <= 0:
        return seen
    return Spread(*(old ** (1 - share) * new**share for old, new in zip(prior, seen, strict=True)))


def _success(windows: list[_Window], own: float, values: float, pool: float | None) -> float:
    found = pool
    levels = [(window.successes / window.attempts, window.attempts * fade) for window, fade, _ in windows]
    for rate, count in [*levels, (own, values)]:
        share = 1.0 if found is None else count / (count + PRIOR)
        found = rate if found is None else found + (rate - found) * share
    return 1.0 if found is None else found


def _middle(spreads: list[Spread | None]) -> Spread | None:
    known = [spread for spread in spreads if spread is not None]
    if not known:
        return None
    columns = [_median(list(column)) for column in zip(*known, strict=True)]
    return Spread(*(value for value in columns if value is not None))


def _median(values: list[float]) -> float | None:
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2] if ordered else None
