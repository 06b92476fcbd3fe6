"""A circuit breaker: closed, open, half open.

Closed, it counts what came in over the last ten seconds and opens when failures come in a row or make up half. Open,
the deployment is ejected for a time that grows with each ejection and shrinks again with healthy time. After that it is
half open: one call at a time is a probe, three good ones in a row close it, one bad one opens it again. Closed again,
its traffic comes back slowly. An attempt that hangs is a failure only when its time is over, which may be a minute; so
a deployment that has said nothing for long, while several attempts wait for it, opens the breaker as well.

A breaker says whether a deployment is bad; whether it is really ejected is `ejection`'s to say, which looks at all
deployments of a model. What began before a breaker opened says nothing of the time after it: `epoch` tells them apart.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Phase(Enum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """The numbers of a breaker.

    Attributes:
        seconds: Length of the window, counted in slots of one second.
        in_a_row: Failures without a success between them that open it.
        least: Calls of the window below which a share says nothing.
        share: Share of failures that opens it, from 0 to 1.
        ejection: Seconds of the first ejection; the n-th lasts n times as long.
        longest: Seconds of the longest ejection, before the jitter.
        jitter: Ejections are up to this share longer or shorter.
        healthy: Seconds of closed time that make the next ejection shorter by one step.
        probes: Successes in a row that close it.
        claim: Seconds within which a call that was chosen as a probe must begin.
        lease: Seconds after which a probe that never ended no longer stands in the way.
        silent: Overdue attempts without any answer since that open it.
        patience: Seconds after which an attempt is overdue at the earliest.
        ramp: Seconds over which traffic comes back after closing.
        floor: Share of its traffic that a deployment gets at once, from 0 to 1.
    """

    seconds: int = 10
    in_a_row: float = 5.0
    least: int = 20
    share: float = 0.5
    ejection: float = 30.0
    longest: float = 300.0
    jitter: float = 0.2
    healthy: float = 10.0
    probes: int = 3
    claim: float = 5.0
    lease: float = 90.0
    silent: int = 5
    patience: float = 3.0
    ramp: float = 30.0
    floor: float = 0.1


RULES: Final = BreakerRules()


class Breaker:
    """The breaker of one unit.

    Args:
        rules: Its numbers.
        chance: Gives numbers from 0 to below 1, for the jitter.

    Attributes:
        phase: Where it stands; `tick` brings it up to date.
        epoch: Grows whenever it opens.
        until: When the ejection ends, unless it ends early.
        reason: What opened it, such as `failures in a row`; empty when it never opened.
        number: The number that did.
    """

    __slots__ = (
        "_bad",
        "_calls",
        "_chance",
        "_closed_at",
        "_failures",
        "_in_a_row",
        "_level",
        "_probe",
        "_probe_began",
        "_probe_until",
        "_rules",
        "_second",
        "_sum",
        "_times",
        "epoch",
        "number",
        "phase",
        "reason",
        "until",
    )

    def __init__(self, rules: BreakerRules = RULES, chance: Callable[[], float] = random.random) -> None:
        self._rules = rules
        self._chance = chance
        self.phase = Phase.CLOSED
        self.epoch = 0
        self.until = 0.0
        self.reason = ""
        self.number = 0.0
        self._calls = [0] * rules.seconds
        self._bad = [0.0] * rules.seconds
        self._sum = 0
        self._failures = 0.0
        self._second = 0
        self._in_a_row = 0.0  # failures while closed, successes otherwise
        self._level = 0
        self._times = 0
        self._closed_at: float | None = None
        self._probe = ""
        self._probe_began = math.inf
        self._probe_until = 0.0

    @property
    def ejections(self) -> int:
        """How often it has opened, for ever."""
        return self._times

    def window(self, now: float) -> tuple[int, float]:
        """Calls of the last seconds, and how many failures there were among them."""
        self._roll(int(now))
        return self._sum, self._failures

    def success(self, now: float) -> None:
        """An attempt of this epoch ended well."""
        if self.phase is Phase.CLOSED:
            self._in_a_row = 0.0
            self._count(now, 0.0)
            return
        self._in_a_row += 1
        if self._in_a_row >= self._rules.probes:
            self._close(now)

    def failure(self, now: float, weight: float = 1.0) -> None:
        """An attempt of this epoch failed; `weight` is how much of a failure it was."""
        if self.phase is Phase.HALF_OPEN:
            self._again(now, "probe failed", 1.0)
        elif self.phase is Phase.OPEN:
            self._in_a_row = 0.0
        else:
            self._in_a_row += weight
            self._count(now, weight)
            self._check(now)

    def _count(self, now: float, weight: float) -> None:
        second = int(now)
        if second != self._second:
            self._roll(second)
        slot = second % self._rules.seconds
        self._calls[slot] += 1
        self._sum += 1
        if weight:
            self._bad[slot] += weight
            self._failures += weight

    def _roll(self, second: int) -> None:
        """Lets go of the seconds that have left the window."""
        seconds = self._rules.seconds
        if second - self._second >= seconds:
            self._forget(second)
            return
        for passed in range(self._second + 1, second + 1):
            slot = passed % seconds
            self._sum -= self._calls[slot]
            self._failures -= self._bad[slot]  # exact: weights are halves
            self._calls[slot] = 0
            self._bad[slot] = 0.0
        self._second = max(second, self._second)

    def _forget(self, second: int) -> None:
        self._calls = [0] * self._rules.seconds
        self._bad = [0.0] * self._rules.seconds
        self._sum = 0
        self._failures = 0.0
        self._second = second

    def _check(self, now: float) -> None:
        rules = self._rules
        if self._in_a_row >= rules.in_a_row:
            self.trip(now, "failures in a row", self._in_a_row)
        elif self._sum >= rules.least and self._failures >= rules.share * self._sum:
            self.trip(now, "share of failures", self._failures / self._sum)

    def trip(self, now: float, reason: str, number: float) -> None:
        """Opens it."""
        rules = self._rules
        self._level = self.level(now) + 1
        spread = 1 + rules.jitter * (2 * self._chance() - 1)
        self.until = now + min(rules.ejection * self._level, rules.longest) * spread
        self.phase = Phase.OPEN
        self.epoch += 1
        self.reason = reason
        self.number = number
        self._times += 1
        self._closed_at = None
        self._in_a_row = 0.0
        self._probe = ""

    def _again(self, now: float, reason: str, number: float) -> None:
        """Opens it after a bad probe; what is left of an ejection that ended early stands, and is no new one."""
        if now >= self.until:
            self.trip(now, reason, number)
            return
        self.phase = Phase.OPEN
        self.epoch += 1
        self.reason = reason
        self.number = number
        self._in_a_row = 0.0
        self._probe = ""

    def level(self, now: float) -> int:
        """The factor of the last ejection, less the healthy time since."""
        if self._closed_at is None:
            return self._level
        return max(0, self._level - int((now - self._closed_at) / self._rules.healthy))

    def tick(self, now: float) -> None:
        """Ends the ejection when its time has come."""
        if self.phase is Phase.OPEN and now >= self.until:
            self._half_open()

    def alive(self, now: float) -> None:
        """A call made only to ask whether it is there was answered: the ejection ends early."""
        if self.phase is Phase.OPEN:
            self._half_open()

    def _half_open(self) -> None:
        self.phase = Phase.HALF_OPEN
        self._probe = ""

    def _close(self, now: float) -> None:
        self.phase = Phase.CLOSED
        self._in_a_row = 0.0
        self._closed_at = now
        self._probe = ""
        self._forget(int(now))

    def claim(self, request_id: str, now: float) -> bool:
        """Makes a call the probe; False when it is not half open or another call is."""
        if not self.free(now):
            return False
        self._probe = request_id
        self._probe_began = math.inf
        self._probe_until = now + self._rules.claim
        return True

    def begin(self, request_id: str, now: float) -> bool:
        """An attempt begins; whether it is the probe."""
        if not self._probe or self._probe != request_id:
            return False
        self._probe_began = now
        self._probe_until = now + self._rules.lease
        return True

    def answered(self, request_id: str) -> None:
        """The probe's first content came: from here on it may take its time."""
        if self._probe == request_id:
            self._probe_began = math.inf

    def waited(self, now: float, usual: float | None, overdue: Callable[[float, float], int], heard: float) -> None:
        """Opens it when answers do not come: a vendor that hangs says nothing that could be counted.

        Args:
            now: The time.
            usual: Seconds that nearly all answers take to begin; None when unknown, and then nothing is overdue.
            overdue: How many attempts have waited longer than so many seconds, at a time.
            heard: When anything came last.
        """
        if usual is None:
            return
        patience = max(self._rules.patience, 2 * usual)
        if self.phase is Phase.HALF_OPEN and self._probe and now - self._probe_began > patience:
            self._again(now, "probe not answered", now - self._probe_began)
        elif self.phase is Phase.CLOSED and now - heard > patience:
            # one that had waited so long already when another was answered is a call of its own trouble, or was lost
            waiting = overdue(patience, now) - overdue(now - heard + patience, now)
            if waiting >= self._rules.silent:
                self.trip(now, "silent", waiting)

    def release(self, request_id: str) -> None:
        """The probe is over, whatever came of it."""
        if self._probe == request_id:
            self._probe = ""

    def free(self, now: float) -> bool:
        """Whether it waits for a probe."""
        return self.phase is Phase.HALF_OPEN and not self.probed(now)

    def probed(self, now: float) -> float:
        """Until when the call that is the probe may stand in the way of another; 0 when none does."""
        return self._probe_until if self._probe and now < self._probe_until else 0.0

    def ramp(self, now: float) -> float:
        """The share of its traffic that it is given back, from 0 to 1; 1 when it never opened."""
        if self._closed_at is None:
            return 1.0
        rules = self._rules
        return min(1.0, rules.floor + (1 - rules.floor) * (now - self._closed_at) / rules.ramp)
