"""Sending less to a deployment that accepts less, before it has to refuse.

The rule is client-side throttling of https://sre.google/sre-book/handling-overload/: a share of the calls goes
elsewhere, max(0, (requests - K * accepts) / (requests + 1)). Requests count from the moment they are sent, or those
that hang would not count at all; but an answer of a model takes its time, so one that is not yet overdue is left out.
"""

from dataclasses import dataclass
from typing import Final

from polyroute.router.health.window import Waiting


@dataclass(frozen=True, slots=True)
class ThrottleRules:
    """The numbers of a throttle.

    Attributes:
        multiple: K: requests per accepted one that are no sign of trouble.
        most: Largest share that is sent elsewhere, from 0 to 1.
        slots: Of the window.
        width: Seconds of a slot.
        patience: Seconds until an unanswered request counts, where nobody knows how long answers take.
        least_patience: The same at least, however quick they are.
    """

    multiple: float = 2.0
    most: float = 0.9
    slots: int = 24
    width: float = 5.0
    patience: float = 60.0
    least_patience: float = 2.0


RULES: Final = ThrottleRules()


class Throttle:
    """The throttle of one deployment.

    Args:
        rules: Its numbers.
    """

    __slots__ = ("_accepted", "_at", "_requests", "_rules", "_waiting")

    def __init__(self, rules: ThrottleRules = RULES) -> None:
        self._rules = rules
        self._requests = [0] * rules.slots
        self._accepted = [0] * rules.slots
        self._at = 0
        self._waiting = Waiting()

    def sent(self, now: float) -> None:
        """A request is about to be sent."""
        self._waiting.add(now)

    def accepted(self, began: float, now: float) -> None:
        """One that began at `began` is being answered."""
        self._waiting.remove(began, now)
        slot = self._slot(now)
        self._requests[slot] += 1
        self._accepted[slot] += 1

    def refused(self, began: float, now: float) -> None:
        """One was not."""
        self._waiting.remove(began, now)
        self._requests[self._slot(now)] += 1

    def dropped(self, began: float, now: float) -> None:
        """One ended without saying anything of the deployment."""
        self._waiting.remove(began, now)

    def forget(self) -> None:
        """What was is over: the deployment has proved that it is well again."""
        self._requests = [0] * self._rules.slots
        self._accepted = [0] * self._rules.slots

    def share(self, now: float, usual: float | None) -> float:
        """The share of calls to send elsewhere, from 0 to `most`.

        Args:
            now: The time.
            usual: Seconds that nearly all answers take to begin; None when unknown.
        """
        rules = self._rules
        self._slot(now)
        patience = rules.patience if usual is None else max(rules.least_patience, 2 * usual)
        requests = sum(self._requests) + self.overdue(patience, now)
        excess = (requests - rules.multiple * sum(self._accepted)) / (requests + 1)
        return min(rules.most, max(0.0, excess))

    def overdue(self, seconds: float, now: float) -> int:
        """How many requests have waited longer than that for their answer."""
        return self._waiting.older(seconds, now) if self._waiting.total else 0

    def _slot(self, now: float) -> int:
        """The slot of now, after those that have left the window were emptied."""
        at, slots = int(now / self._rules.width), self._rules.slots
        if at != self._at:
            for passed in range(max(self._at + 1, at - slots + 1), at + 1):
                self._requests[passed % slots] = 0
                self._accepted[passed % slots] = 0
            self._at = max(self._at, at)
        return at % slots
