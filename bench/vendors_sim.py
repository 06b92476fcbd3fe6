"""Simulated vendors and calls in simulated time: no socket, no sleep, every draw from a seed.

A *vendor* has a price, a speed and a way to fail, each of which may change with time: it drifts, browns out, stalls,
goes down, changes its price. A *router* is told of every attempt and says where calls go. `run` plays calls against
both and tells what came of them. Two routers that are given the same scenario meet the same calls and the same luck.
"""

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Final, Protocol

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.router.health.outcomes import Outcome

MOST_ATTEMPTS: Final = 3
POLL: Final = 0.5  # s between two moments at which a router may ask ejected vendors whether they are there
BACKOFF: Final = 0.25  # s before a vendor is tried again in the same call
SOON: Final = 60.0  # s after a vendor is back in which recovery is looked for
_REFUSED_SECONDS: Final = 0.15  # an error comes at once


@dataclass(frozen=True, slots=True)
class Change:
    """A vendor is different for a while.

    Attributes:
        begin: From when, seconds.
        end: Until when.
        errors: Share of calls that are refused with a 500, from 0 to 1.
        stalls: Share of calls that are never answered, from 0 to 1.
        slower: Factor of the first-token time.
        dearer: Factor of the price.
    """

    begin: float
    end: float
    errors: float = 0.0
    stalls: float = 0.0
    slower: float = 1.0
    dearer: float = 1.0


@dataclass(frozen=True, slots=True)
class Condition:
    """How a vendor is at a moment: shares from 0 to 1, ms, USD per thousand tokens."""

    errors: float
    stalls: float
    first_ms: float
    price: float

    @property
    def failing(self) -> float:
        """Share of calls that fail in one way or another."""
        return self.errors + self.stalls


@dataclass(frozen=True)
class Vendor:
    """A simulated vendor.

    Attributes:
        name: Its name.
        price: USD per thousand tokens of the answer.
        first_ms: Median first-token time.
        sigma: How much it scatters: the standard deviation of its logarithm.
        speed: Tokens per second after the first.
        swing: How far the first-token time drifts, as a factor: between 1/swing and swing.
        period: Seconds of that drift.
        offset: Seconds by which it is shifted.
        tail: Share of answers whose first token is late by `tail_factor`.
        tail_factor: By how much.
        changes: What happens to it.
    """

    name: str
    price: float = 1.0
    first_ms: float = 400.0
    sigma: float = 0.35
    speed: float = 80.0
    swing: float = 1.0
    period: float = 600.0
    offset: float = 0.0
    tail: float = 0.0
    tail_factor: float = 1.0
    changes: tuple[Change, ...] = ()

    def at(self, now: float) -> Condition:
        """How it is."""
        errors = stalls = 0.0
        slower = self.swing ** math.sin(2 * math.pi * (now + self.offset) / self.period)
        dearer = 1.0
        for change in self.changes:
            if change.begin <= now < change.end:
                errors, stalls = max(errors, change.errors), max(stalls, change.stalls)
                slower *= change.slower
                dearer *= change.dearer
        return Condition(errors, stalls, self.first_ms * slower, self.price * dearer)


@dataclass(frozen=True)
class Scenario:
    """What happens.

    Attributes:
        name: For the table.
        vendors: Who serves the model.
        seconds: How long calls come.
        rate: Calls per second.
        seed: Of every draw.
        patience: Seconds that an attempt waits for its first content.
        back: When the vendor that was in trouble is well again; None when recovery is not looked at.
        tokens: Mean length of an answer.
    """

    name: str
    vendors: tuple[Vendor, ...]
    seconds: float
    rate: float
    seed: int = 1
    patience: float = 60.0
    back: float | None = None
    tokens: float = 150.0

    @cached_property
    def arrivals(self) -> list[float]:
        """When calls come: independent of each other, and the same for every router."""
        chance = random.Random(f"{self.seed}/arrivals")
        found, now = [], chance.expovariate(self.rate)
        while now < self.seconds:
            found.append(now)
            now += chance.expovariate(self.rate)
        return found

    @cached_property
    def luck(self) -> dict[str, list[tuple[float, float, float]]]:
        """For each vendor and call: whether it fails, how late it is, whether it is in the tail."""
        return {
            vendor.name: [(draw.random(), draw.gauss(0, 1), draw.random()) for _ in self.arrivals]
            for vendor in self.vendors
            for draw in [random.Random(f"{self.seed}/{vendor.name}")]
        }

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each call's answer."""
        chance = random.Random(f"{self.seed}/lengths")
        return [1 + int(chance.expovariate(1 / self.tokens)) for _ in self.arrivals]

    def outcome(self, vendor: Vendor, call: int, attempt: int, now: float) -> Outcome:
        """How an attempt goes that is sent now."""
        luck = self.luck[vendor.name]
        fails, late, tail = luck[(call + 7919 * (attempt - 1)) % len(luck)]
        condition = vendor.at(now)
        if fails < condition.errors:
            return Outcome(pb.FAULT_SERVER, total_ms=_REFUSED_SECONDS * 1e3, status=500)
        if fails < condition.failing:
            return Outcome(pb.FAULT_STALL, total_ms=self.patience * 1e3)
        first = condition.first_ms * math.exp(vendor.sigma * late) * (vendor.tail_factor if tail < vendor.tail else 1)
        tokens = self.lengths[call]
        return Outcome(first_token_ms=first, total_ms=first + 1e3 * tokens / vendor.speed, output_tokens=tokens)


class Clock:
    """Time that passes when the simulation says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Router(Protocol):
    """Who says where calls go. Names are those of vendors."""

    def order(self, call: str) -> Sequence[str]:
        """Whom to try, the first first; empty when the call is refused."""

    def began(self, vendor: str, call: str, attempt: int, hedged: bool) -> None:
        """An attempt is sent."""

    def answered(self, call: str, attempt: int) -> None:
        """Its first token came."""

    def ended(self, vendor: str, call: str, attempt: int, outcome: Outcome) -> None:
        """It is over."""

    def may_retry(self, vendor: str) -> bool:
        """Whether another attempt may follow."""

    def hedge_after(self, vendor: str) -> float | None:
        """Seconds without a first token after which a second vendor is asked as well; None for never."""

    def asks(self) -> Sequence[str]:
        """Vendors to ask now whether they are there."""

    def told(self, vendor: str, there: bool) -> None:
        """What came of it."""


Maker = Callable[[Scenario, Clock], Router]


@dataclass
class Tally:
    """What came of a scenario under a router.

    Attributes:
        calls: How many there were.
        served: Of these, those that were answered.
        refused: Those for which nobody was tried.
        attempts: Sent to vendors, those that only asked included.
        hedges: Attempts beside another one.
        asks: Attempts that only asked whether a vendor is there.
        cost: USD, of answers that were complete.
        first_tokens: Seconds from the call to its first token, of those that were served.
        failed_at: When calls came that were not served.
        spells: By second: calls that came, and of them those served.
        readmitted: Seconds until the vendor that came back gave a first token; infinite when it never did.
    """

    calls: int = 0
    served: int = 0
    refused: int = 0
    attempts: int = 0
    hedges: int = 0
    asks: int = 0
    cost: float = 0.0
    first_tokens: list[float] = field(default_factory=list)
    failed_at: list[float] = field(default_factory=list)
    spells: dict[int, list[int]] = field(default_factory=dict)
    readmitted: float = math.inf

    @property
    def success(self) -> float:
        """Share of the calls that were served."""
        return self.served / self.calls if self.calls else 1.0

    @property
    def per_call(self) -> float:
        """Upstream attempts per call."""
        return self.attempts / self.calls if self.calls else 0.0

    def first_token(self, share: float) -> float:
        """A percentile of the first-token times, seconds."""
        ordered = sorted(self.first_tokens)
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else math.inf

    def recovery(self, back: float) -> float:
        """Seconds after `back` from which at least 99 of 100 calls of every second are served."""
        bad = [
            second + 1 - back
            for second, (calls, served) in self.spells.items()
            if back <= second + 1 <= back + SOON and served < 0.99 * calls
        ]
        return max([0.0, *bad])


@dataclass(slots=True)
class _Call:
    """One call on its way."""

    number: int
    name: str
    came: float
    order: Sequence[str] = ()
    sent: list[str] = field(default_factory=list)
    running: int = 0
    answered_by: int = 0
    over: bool = False


class _Play:
    """One run: a queue of what happens next."""

    def __init__(self, scenario: Scenario, router: Router, clock: Clock) -> None:
        self.scenario = scenario
        self.router = router
        self.clock = clock
        self.tally = Tally()
        self._vendors = {vendor.name: vendor for vendor in scenario.vendors}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()

    def at(self, moment: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (moment, next(self._number), what))

    def play(self) -> Tally:
        for number, moment in enumerate(self.scenario.arrivals):
            self.at(moment, lambda number=number: self._arrive(number))  # type: ignore[misc] # binds the number
        self.at(POLL, self._poll)
        while self._queue:
            self.clock.now, _, what = heapq.heappop(self._queue)
            what()
        return self.tally

    def _arrive(self, number: int) -> None:
        call = _Call(number, f"call-{number}", self.clock.now)
        self.tally.calls += 1
        self.tally.spells.setdefault(int(call.came), [0, 0])[0] += 1
        call.order = self.router.order(call.name)
        if call.order:
            self._send(call, call.order[0])
        else:
            self.tally.refused += 1
            self._lost(call)

    def _send(self, call: _Call, vendor: str, *, hedged: bool = False) -> None:
        if call.over:
            return
        now = self.clock.now
        call.sent.append(vendor)
        call.running += 1
        attempt = len(call.sent)
        self.tally.attempts += 1
        self.tally.hedges += hedged
        self.router.began(vendor, call.name, attempt, hedged)
        outcome = self.scenario.outcome(self._vendors[vendor], call.number, attempt, now)
        if outcome.first_token_ms:
            self.at(now + outcome.first_token_ms / 1e3, lambda: self._answered(call, attempt))
        self.at(now + outcome.total_ms / 1e3, lambda: self._ended(call, vendor, attempt, outcome))
        delay = self.router.hedge_after(vendor) if attempt == 1 and len(call.order) > 1 else None
        if delay is not None:
            self.at(now + delay, lambda: self._hedge(call))

    def _hedge(self, call: _Call) -> None:
        fresh = [vendor for vendor in call.order if vendor not in call.sent]
        if fresh and not call.answered_by and call.running and self.router.hedge_after(call.sent[0]) is not None:
            self._send(call, fresh[0], hedged=True)

    def _answered(self, call: _Call, attempt: int) -> None:
        if call.answered_by or call.over:
            return
        call.answered_by = attempt
        self.router.answered(call.name, attempt)
        self.tally.first_tokens.append(self.clock.now - call.came)
        back = self.scenario.back
        if back is not None and call.came >= back and self._vendors[call.sent[attempt - 1]].changes:
            self.tally.readmitted = min(self.tally.readmitted, self.clock.now - back)
        for other, vendor in enumerate(call.sent, 1):  # whoever is asked beside it is no longer needed
            if other != attempt and call.running > 1:
                call.running -= 1
                self.router.ended(vendor, call.name, other, Outcome(cancelled=True))

    def _ended(self, call: _Call, vendor: str, attempt: int, outcome: Outcome) -> None:
        if call.over or (call.answered_by and call.answered_by != attempt):
            return
        call.running -= 1
        self.router.ended(vendor, call.name, attempt, outcome)
        if not outcome.fault:
            self._served(call, vendor, outcome)
        elif not call.running:
            self._retry(call, vendor)

    def _retry(self, call: _Call, failed: str) -> None:
        fresh = [vendor for vendor in call.order if vendor not in call.sent]
        if len(call.sent) >= MOST_ATTEMPTS or not self.router.may_retry(failed):
            self._lost(call)
        elif fresh:
            self._send(call, fresh[0])
        else:
            again = call.sent[0]
            self.at(self.clock.now + BACKOFF * len(call.sent), lambda: self._send(call, again))

    def _served(self, call: _Call, vendor: str, outcome: Outcome) -> None:
        call.over = True
        tally = self.tally
        tally.served += 1
        tally.spells[int(call.came)][1] += 1
        tally.cost += outcome.output_tokens / 1e3 * self._vendors[vendor].at(call.came).price

    def _lost(self, call: _Call) -> None:
        call.over = True
        self.tally.failed_at.append(call.came)

    def _poll(self) -> None:
        now = self.clock.now
        for name in self.router.asks():
            self.tally.attempts += 1
            self.tally.asks += 1
            outcome = self.scenario.outcome(self._vendors[name], self.tally.asks, 1, now)
            first = outcome.total_ms if outcome.fault else outcome.first_token_ms
            there = not outcome.fault
            self.at(now + first / 1e3, lambda name=name, there=there: self.router.told(name, there))  # type: ignore[misc]
        if now < self.scenario.seconds:
            self.at(now + POLL, self._poll)


def run(scenario: Scenario, make: Maker) -> Tally:
    """Plays a scenario with a router of its own."""
    clock = Clock()
    return _Play(scenario, make(scenario, clock), clock).play()
