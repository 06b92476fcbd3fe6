"""An attempt under way, and what its end says of its deployment: to the breaker, the throttle and the figures."""

from collections.abc import Mapping
from typing import Final

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.router.health.breaker import Phase
from polyroute.router.health.outcomes import RESTS, Outcome, failure_weight
from polyroute.router.health.unit import Unit

LEASE: Final = 900.0  # s after which an attempt that never ended no longer counts as under way


class Flight:
    """One attempt.

    Args:
        unit: Where to.
        request_id: The call.
        began: When it was sent.
        retry: It is made instead of another one that failed.

    Attributes:
        epoch: The breaker's when it began.
        retry: It holds a place among the retries under way.
        answered: Its first content came.
    """

    __slots__ = ("answered", "began", "epoch", "request_id", "retry", "unit")

    def __init__(self, unit: Unit, request_id: str, began: float, retry: bool) -> None:
        self.unit = unit
        self.request_id = request_id
        self.began = began
        self.epoch = unit.breaker.epoch
        self.retry = retry
        self.answered = False

    def landed(self) -> None:
        """It no longer counts as under way."""
        unit = self.unit
        unit.in_flight -= 1
        budget = unit.group.budget
        budget.active -= 1
        if self.retry:
            budget.retrying -= 1
        if unit.breaker.phase is not Phase.CLOSED:
            unit.breaker.release(self.request_id)

    def lost(self, now: float) -> None:
        """It was made elsewhere, or nobody will say any more how it ended."""
        self.landed()
        if not self.answered:
            self.unit.throttle.dropped(self.began, now)

    def good(self, outcome: Outcome, now: float) -> bool:
        """It went well; whether the breaker moved."""
        unit = self.unit
        unit.recent.good(outcome, now)
        unit.news()
        if not self.answered:
            unit.throttle.accepted(self.began, now)
        if unit.delays is not None and outcome.first_token_ms > 0:
            unit.delays.add(outcome.prompt_tokens, outcome.first_token_ms)
        unit.worked(outcome.key, outcome.operation, now)
        breaker = unit.breaker
        if self.epoch != breaker.epoch:
            return False  # it began before the breaker opened, when the vendor may still have been well
        was = breaker.phase
        breaker.success(now)
        if breaker.phase is was:
            return False
        unit.throttle.forget()
        return True

    def callers(self, outcome: Outcome, now: float) -> None:
        """The vendor did its part: it read the request and said what is wrong with it."""
        if self.answered:
            return
        if outcome.fault == pb.FAULT_UNSUPPORTED:  # nothing was sent
            self.unit.throttle.dropped(self.began, now)
        else:
            self.unit.throttle.accepted(self.began, now)

    def bad(self, outcome: Outcome, now: float) -> bool:
        """It failed; whether the breaker opened. What rests is for `Rests` to hear."""
        unit = self.unit
        unit.recent.bad(now)
        unit.news()
        if not self.answered:
            if outcome.fault in RESTS and outcome.fault != pb.FAULT_RATE:
                unit.throttle.dropped(self.began, now)  # it says nothing of how much is too much
            else:
                unit.throttle.refused(self.began, now)
        if outcome.fault in RESTS:
            return False
        breaker = unit.breaker
        weight = failure_weight(outcome.fault, outcome.status)
        if not weight or self.epoch != breaker.epoch:
            return False
        breaker.failure(now, weight)
        return breaker.epoch != self.epoch


def overdue(flights: Mapping[tuple[str, int], Flight], now: float) -> list[tuple[str, int]]:
    """Of those under way, the oldest first, the ones that nobody will hear of any more."""
    found = []
    for key, flight in flights.items():
        if now - flight.began < LEASE:
            break
        found.append(key)
    return found
