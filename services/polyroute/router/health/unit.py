"""One deployment, and the deployments of one model together: everything that is kept of them."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from polyroute.api.chat.v1.chat_pb2 import OPERATION_UNSPECIFIED, Operation
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.api.metrics.v1.metrics_pb2 import DeploymentStats
from polyroute.router.health import ejection
from polyroute.router.health.breaker import Breaker, BreakerRules, Phase
from polyroute.router.health.cooldown import Cooldown, Rest, of_operation
from polyroute.router.health.hedge import Delays, HedgeBudget, HedgeRules
from polyroute.router.health.outcomes import word_of
from polyroute.router.health.retry_budget import RetryBudget, RetryRules
from polyroute.router.health.scores import NO_POOL, UNKNOWN, Figures, Pool, Recent, merged, pool_of
from polyroute.router.health.throttle import Throttle, ThrottleRules

KEPT_FIGURES: Final = 5.0  # s that figures hold when nothing new comes
KEPT_POOL: Final = 5.0  # s


@dataclass(frozen=True, slots=True)
class Rules:
    """Every number of health; the defaults are the decided ones.

    Attributes:
        breaker: Of each deployment.
        throttle: Of each deployment.
        retries: Of each model.
        hedging: Of each model; None switches hedging off.
        ask_every: Seconds between two calls that only ask an ejected deployment whether it is there.
        asks: Such calls per minute at most, all deployments together.
    """

    breaker: BreakerRules = field(default_factory=BreakerRules)
    throttle: ThrottleRules = field(default_factory=ThrottleRules)
    retries: RetryRules = field(default_factory=RetryRules)
    hedging: HedgeRules | None = None
    ask_every: float = 2.0
    asks: int = 60


class Verdict(Enum):
    """Whether a deployment may be tried."""

    ALLOWED = "allowed"
    PROBE = "probe"
    EJECTED = "ejected"
    COOLING = "cooling"


class Standing(NamedTuple):
    """How a deployment stands.

    Args:
        verdict: Whether it may be tried; PROBE: by one call at a time.
        reason: Why, in words, such as `failures in a row`; empty when there is nothing to say.
        number: The number behind the reason; of a rest, the seconds that are left of it.
        share: Of the calls whose turn it is, those that it gets; from 0 to 1.
        figures: Its live figures.
        until: When an ejection or a rest ends, unless it ends early, or a probe that is under way; 0 for neither.
    """

    verdict: Verdict
    reason: str
    number: float
    share: float
    figures: Figures
    until: float = 0.0


class Member(NamedTuple):
    """What health needs to know of a deployment.

    Args:
        deployment: Its name.
        group: The public model it serves.
        provider: Whose keys it uses.
        keys: How many there are; at least 1.
    """

    deployment: str
    group: str
    provider: str
    keys: int = 1


class Group:
    """The deployments of one model.

    Args:
        name: The model.
        rules: The numbers.

    Attributes:
        members: Its deployments.
        budget: Of retries, and of calls while all of them are bad.
        hedges: Of hedges; None when hedging is off.
        failing: Share of the own recent attempts that failed, from 0 to 1, as of the last review.
    """

    __slots__ = ("_pool", "_pool_at", "budget", "failing", "hedges", "members", "name")

    def __init__(self, name: str, rules: Rules) -> None:
        self.name = name
        self.members: list[Unit] = []
        self.budget = RetryBudget(rules.retries)
        self.hedges = HedgeBudget(rules.hedging) if rules.hedging else None
        self.failing = 0.0
        self._pool = NO_POOL
        self._pool_at = -math.inf

    def pool(self, now: float) -> Pool:
        """What is usual among its deployments."""
        if now - self._pool_at >= KEPT_POOL:
            self._pool_at = now
            self._pool = pool_of([unit.known for unit in self.members])
        return self._pool

    def review(self, now: float) -> None:
        """Compares its deployments with each other."""
        windows = {unit.name: unit.breaker.window(now) for unit in self.members}
        counts = [unit.recent.counts(now) for unit in self.members]
        attempts = sum(attempts for _, attempts in counts)
        self.failing = 1 - sum(good for good, _ in counts) / attempts if attempts else 0.0
        far = ejection.outliers({unit.name: windows[unit.name] for unit in self.members if unit.closed})
        slow = ejection.slowness({unit.name: unit.recent.smoothed() for unit in self.members})
        for unit in self.members:
            unit.breaker.tick(now)
            unit.breaker.waited(now, unit.usual, unit.throttle.overdue, unit.heard)
            if unit.name in far:
                unit.breaker.trip(now, "success rate below its peers'", far[unit.name])
        out = self._out(windows)
        for unit in self.members:
            unit.review(now, unit.name in out, slow.get(unit.name, 1.0))

    def _out(self, windows: dict[str, tuple[int, float]]) -> frozenset[str]:
        """Who is ejected: the worst of the bad ones; all of them when nobody else is left."""
        bad = [unit for unit in self.members if not unit.closed]
        if len(bad) == len(self.members):
            return frozenset(unit.name for unit in bad)
        return ejection.ejected([(unit.name, unit.rate) for unit in bad], len(self.members))


class Unit:
    """One deployment.

    Args:
        member: What it is.
        group: Its model's.
        house: The rests of its provider's keys.
        rules: The numbers.
        chance: Gives numbers from 0 to below 1, for the jitter.
        now: The time.

    Attributes:
        cooldown: The rests of all that it does.
        gone: Operation -> the rests of that one alone.
        known: Its figures as last worked out.
        touched: Something came in since the last review.
        heard: When anything came of it last.
        answers: It is told when an answer begins, not only when it ends.
        asked: When it was last asked whether it is there.
        told: The breaker's phase and epoch that operators were told of last; None while it is closed.
    """

    __slots__ = (
        "_figures_at",
        "_fresh",
        "_pushed_at",
        "_stats",
        "answers",
        "asked",
        "breaker",
        "cooldown",
        "delays",
        "gone",
        "group",
        "heard",
        "house",
        "in_flight",
        "known",
        "member",
        "name",
        "out",
        "recent",
        "shed",
        "slow",
        "throttle",
        "told",
        "touched",
    )

    def __init__(
        self, member: Member, group: Group, house: Cooldown, rules: Rules, chance: Callable[[], float], now: float
    ) -> None:
        self.member = member
        self.name = member.deployment
        self.group = group
        self.house = house
        self.breaker = Breaker(rules.breaker, chance)
        self.throttle = Throttle(rules.throttle)
        self.cooldown = Cooldown(member.keys)
        self.gone: dict[int, Cooldown] = {}
        self.recent = Recent(now)
        self.delays = Delays(rules.hedging) if rules.hedging else None
        self.known = UNKNOWN
        self.in_flight = 0
        self.touched = False
        self.answers = False
        self.asked = -math.inf
        self.told: tuple[Phase, int] | None = None
        self.heard = now
        self.out = False
        self.slow = 1.0
        self.shed = 0.0
        self._stats: DeploymentStats | None = None
        self._pushed_at = 0.0
        self._figures_at = -math.inf
        self._fresh = False

    @property
    def closed(self) -> bool:
        """Whether its breaker is."""
        return self.breaker.phase is Phase.CLOSED

    @property
    def rate(self) -> float:
        """Its success rate among the own attempts, from 0 to 1."""
        return self.recent.success

    def pushed(self, stats: DeploymentStats | None, now: float) -> None:
        """Metrics said something of it."""
        self._stats = stats
        self._pushed_at = now
        self._fresh = False

    def news(self) -> None:
        """An attempt ended: figures have to be worked out again."""
        self._fresh = False

    def place(self, fault: Fault.ValueType, operation: Operation.ValueType) -> Cooldown:
        """Where a refusal that is not the whole provider's belongs."""
        only = of_operation(fault, operation)
        return self.gone.setdefault(only, Cooldown(self.member.keys)) if only else self.cooldown

    def resting(self, now: float, operation: Operation.ValueType = OPERATION_UNSPECIFIED) -> Rest | None:
        """What keeps its keys from being used, for an operation or at all; the longest of those there are."""
        places = [self.cooldown, self.house]
        if (gone := self.gone.get(operation)) is not None:
            places.append(gone)
        rests = [rest for place in places if (rest := place.current(now)) is not None]
        return max(rests, key=lambda rest: rest.until, default=None)

    def worked(self, key: int, operation: Operation.ValueType, now: float) -> None:
        """An attempt went well: refusals that are over no longer count."""
        if self.cooldown.any or self.house.any:
            self.cooldown.worked(key, now)
            self.house.worked(key, now)
        if (gone := self.gone.get(operation)) is not None:
            gone.worked(key, now)
            if not gone.any:
                del self.gone[operation]

    def forgive(self) -> None:
        """Nothing of its own rests any more."""
        self.cooldown.forget()
        self.gone.clear()

    def review(self, now: float, out: bool, slow: float) -> None:
        """Takes in what the comparison with the others says."""
        if now - self._figures_at >= KEPT_FIGURES:
            self.figures(now)
        self.out, self.slow = out, slow
        self.shed = self.throttle.share(now, self.usual)

    @property
    def usual(self) -> float | None:
        """Seconds that nearly all answers take until something is heard of them; None when unknown."""
        spread = self.known.first_token if self.answers else self.known.total
        return None if spread is None else spread.p99 / 1e3

    def share(self, now: float) -> float:
        """Of the calls whose turn it is, those that it gets."""
        return (1.0 - self.shed) * self.slow * self.breaker.ramp(now)

    def troubled(self, now: float) -> bool:
        """Whether anything keeps calls from it."""
        if self.out or not self.closed or self.share(now) < 1 or self.resting(now) is not None:
            return True
        return any(place.current(now) is not None for place in self.gone.values())

    def figures(self, now: float) -> Figures:
        """Its live figures, worked out again when something came in or they have become old."""
        if not self._fresh or now - self._figures_at >= KEPT_FIGURES:
            self.known = merged(self.recent, self._stats, self._pushed_at, self.group.pool(now), now)
            self._figures_at = now
            self._fresh = True
        return self.known

    def standing(self, now: float, operation: Operation.ValueType = OPERATION_UNSPECIFIED) -> Standing:
        """How it stands, for an operation or as a whole."""
        figures = self.figures(now)._replace(in_flight=self.in_flight)
        rest = self.resting(now, operation)
        if rest is not None:
            figures = figures._replace(retry_after=rest.until - now)
            return Standing(Verdict.COOLING, word_of(rest.fault), rest.until - now, 0.0, figures, rest.until)
        breaker = self.breaker
        if self.out and breaker.phase is Phase.HALF_OPEN:
            return Standing(Verdict.PROBE, breaker.reason, breaker.number, 0.0, figures)
        if self.out:
            return Standing(Verdict.EJECTED, breaker.reason, breaker.number, 0.0, figures, breaker.until)
        return Standing(Verdict.ALLOWED, *self._reason(now), figures)

    def _reason(self, now: float) -> tuple[str, float, float]:
        """Why it gets less than all, the number behind that, and its share."""
        share = self.share(now)
        if not self.closed:
            return "bad, and too many are", self.breaker.number, share
        if share >= 1:
            return "", 0.0, 1.0
        reasons = (("accepts too few", self.shed), ("slow", 1 - self.slow), ("coming back", 1 - self.breaker.ramp(now)))
        word, number = max(reasons, key=lambda one: one[1])
        return word, number, share


def least_bad(units: Iterable[Unit]) -> list[Unit]:
    """Bad deployments, the one that failed least first."""
    return sorted(units, key=lambda unit: (-unit.rate, unit.name))
