"""How many retries a model may have: a share of its calls, so that a failing vendor is not hit harder for failing.

Each call deposits a fifth of a retry, good for ten seconds; some retries are free, so that a model with little traffic
may retry at all. Retries under way at once are bounded too: those that wait for a stalled vendor hold their place.
"""

from dataclasses import dataclass
from typing import Final

from polyroute.router.health.window import Counter


@dataclass(frozen=True, slots=True)
class RetryRules:
    """The numbers of a retry budget.

    Attributes:
        share: Retries that a call pays for.
        seconds: How long that is good for.
        floor: Retries in that time that need no calls.
        most: Share of the attempts under way that may be retries.
        few: Retries under way that are always allowed.
    """

    share: float = 0.2
    seconds: int = 10
    floor: int = 3
    most: float = 0.2
    few: int = 3


RULES: Final = RetryRules()


class RetryBudget:
    """The budget of one model.

    Args:
        rules: Its numbers.

    Attributes:
        active: Attempts under way, retries included.
        retrying: Retries under way that were not answered yet.
    """

    __slots__ = ("_calls", "_retries", "_rules", "active", "retrying")

    def __init__(self, rules: RetryRules = RULES) -> None:
        self._rules = rules
        self._calls = Counter(rules.seconds)
        self._retries = Counter(rules.seconds)
        self.active = 0
        self.retrying = 0

    def call(self, now: float) -> None:
        """A call came in, whether it is let through or not."""
        self._calls.add(now)

    def balance(self, now: float) -> float:
        """Retries that are paid for and not used."""
        rules = self._rules
        paid = max(float(rules.floor), rules.share * self._calls.read(now))
        return paid - self._retries.read(now)

    def allows(self, now: float) -> bool:
        """Whether another retry may begin."""
        rules = self._rules
        if self.retrying >= max(rules.few, rules.most * self.active):
            return False
        return self.balance(now) >= 1

    def spend(self, now: float) -> None:
        """A retry begins, or a call to a model that is down as a whole."""
        self._retries.add(now)
