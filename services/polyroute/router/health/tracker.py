"""Health: one object that is told of every attempt and says of every deployment how it stands.

Time is passed in or read from the clock; nothing here waits, sends or starts anything. A call's way through it:

    steering = health.steer(order, id, operation)   # once per call: who may be tried, in which order, or why nobody
    health.begin(deployment, request_id)            # before an attempt is sent
    health.answered(request_id)                     # when its first content comes, where that is known
    health.end(deployment, request_id, outcome)     # when it is over
    health.may_retry(deployment)                    # before a second attempt

Memory grows with the number of deployments and of attempts under way, never with traffic.
"""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import OPERATION_UNSPECIFIED, Operation
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.metrics.v1.metrics_pb2 import WatchStatsResponse
from polyroute.router.health.breaker import Phase
from polyroute.router.health.chronicle import Chronicle, Turn
from polyroute.router.health.fleet import Fleet
from polyroute.router.health.flight import Flight, overdue
from polyroute.router.health.hedge import HedgeRules
from polyroute.router.health.order import Orders, Steering
from polyroute.router.health.outcomes import CALLERS, RESTS, Outcome
from polyroute.router.health.rests import Resting, Rests
from polyroute.router.health.state import State
from polyroute.router.health.unit import Member, Rules
from polyroute.router.health.window import Counter

TICK: Final = 1.0  # s between two looks at everything that moves by itself
RENEW: Final = 5.0  # s after which figures have aged so far that a state is made anew, though nothing came in


class Health:
    """How deployments are.

    Args:
        rules: Every number.
        clock: Seconds that only grow.
        seed: Of the jitter.
    """

    def __init__(
        self, rules: Rules | None = None, *, clock: Callable[[], float] = time.monotonic, seed: int | None = None
    ) -> None:
        self._clock = clock
        self._fleet = Fleet(rules or Rules(), random.Random(seed).random)  # noqa: S311 - spreads ejections, no secret
        self._units = self._fleet.units
        self._chronicle = Chronicle()
        self._rests = Rests(self._fleet, self._chronicle)
        self._orders = Orders(self._units)
        self._flights: dict[tuple[str, int], Flight] = {}  # the oldest first
        self._troubled: frozenset[str] = frozenset()
        self._asks = Counter(60)
        self._changed = False
        self._news = False  # metrics sent something
        self._due = 0.0
        self._state = State(0, clock(), self._units, self._troubled)

    # ---- what there is

    def arrange(self, members: Iterable[Member]) -> None:
        """Takes in the deployments of a catalog: those that stay keep what is known of them."""
        self._fleet.arrange(members, self._clock())
        self._changed = True

    def forgive(self, provider: str) -> None:
        """A provider's keys were changed: what was refused may be granted."""
        self._fleet.forgive(provider)
        self._changed = True

    # ---- what comes in

    def pushed(self, message: WatchStatsResponse) -> None:
        """Metrics sent the figures of all processes."""
        now = self._clock()
        said = {stats.deployment: stats for stats in message.deployments}
        for name, unit in self._units.items():
            unit.pushed(said.get(name), now)
        self._news = True

    def begin(self, deployment: str, request_id: str, *, attempt: int = 1, hedged: bool = False) -> None:
        """An attempt is about to be sent.

        Args:
            deployment: Where to.
            request_id: The call.
            attempt: Its number in the call, from 1.
            hedged: It is made beside another one and not instead of it.
        """
        now = self._clock()
        unit = self._units.get(deployment) or self._fleet.met(deployment, now)
        group = unit.group
        retry = attempt > 1 and not hedged
        if unit.breaker.phase is not Phase.CLOSED:
            unit.breaker.begin(request_id, now)
        unit.in_flight += 1
        unit.throttle.sent(now)
        group.budget.active += 1
        if retry:
            group.budget.spend(now)
            group.budget.retrying += 1
        elif hedged and group.hedges is not None:
            group.hedges.spend()
        key = (request_id, attempt)
        if key in self._flights:  # said twice
            self._flights.pop(key).lost(now)
        self._flights[key] = Flight(unit, request_id, now, retry)
        if not unit.touched:
            unit.touched = True
            self._fleet.touched.append(unit)

    def answered(self, request_id: str, *, attempt: int = 1, deployment: str = "") -> None:
        """The first content of an attempt came.

        Args:
            request_id: The call.
            attempt: Its number in the call, from 1.
            deployment: Where to; empty for where it was expected to go.
        """
        flight = self._flights.get((request_id, attempt))
        if flight is not None and deployment not in ("", flight.unit.name):  # there was no room at the first one
            self.begin(deployment, request_id, attempt=attempt)
            flight = self._flights[request_id, attempt]
        if flight is not None and not flight.answered:
            now, unit = self._clock(), flight.unit
            flight.answered = True
            unit.answers = True
            unit.heard = now
            unit.throttle.accepted(flight.began, now)
            unit.breaker.answered(request_id)
            if flight.retry:  # no longer waits on anybody's trouble
                flight.retry = False
                unit.group.budget.retrying -= 1

    def end(self, deployment: str, request_id: str, outcome: Outcome, *, attempt: int = 1) -> None:
        """An attempt is over. One that was not seen to begin, as after a restart, counts too."""
        now = self._clock()
        flight = self._flights.pop((request_id, attempt), None)
        if flight is not None and flight.unit.name != deployment:  # there was no room at the first one
            flight.lost(now)
            flight = None
        if flight is None:
            flight = self._unseen(deployment, request_id, now)
        else:
            flight.landed()
        unit = flight.unit
        if not unit.touched:
            unit.touched = True
            self._fleet.touched.append(unit)
        if outcome.cancelled:
            if not flight.answered:
                unit.throttle.dropped(flight.began, now)
            return
        if not flight.answered:  # else it was heard of when the answer began: the end of it says nothing of new calls
            unit.heard = now
        if outcome.fault == pb.FAULT_UNSPECIFIED:
            if flight.good(outcome, now):
                self._changed = True
        elif outcome.fault in CALLERS:
            flight.callers(outcome, now)
        elif flight.bad(outcome, now) or (outcome.fault in RESTS and self._rests.refused(unit, outcome, now)):
            self._changed = True

    def _unseen(self, deployment: str, request_id: str, now: float) -> Flight:
        unit = self._units.get(deployment) or self._fleet.met(deployment, now)
        flight = Flight(unit, request_id, now, retry=False)
        unit.throttle.sent(now)
        return flight

    def take_rests(self) -> list[Resting]:
        """What began to rest since the last time, for other routers."""
        return self._rests.take()

    def rest(self, told: Resting) -> None:
        """Another router says what rests; nothing shorter than what is known here changes anything."""
        self._changed |= self._rests.told(told, self._clock())

    # ---- what is known

    @property
    def now(self) -> float:
        """The time, as standings count it."""
        return self._clock()

    def take_turns(self) -> list[Turn]:
        """What became of deployments since the last time, for the log."""
        return self._chronicle.take()

    def circuits(self) -> list[tuple[str, str, Phase]]:
        """Deployment, provider and phase of each breaker; not of those that callers thought of."""
        known = self._fleet.known()
        return [(unit.name, unit.member.provider, unit.breaker.phase if unit.out else Phase.CLOSED) for unit in known]

    def state(self) -> State:
        """How all deployments stand now.

        A new version comes at once when one is ejected, comes back or begins to rest; otherwise once a second while
        there are attempts or metrics sends figures.
        """
        now = self._clock()
        if self._changed or now >= self._due:
            self._review(now)
        return self._state

    def _review(self, now: float) -> None:
        self._due = now + TICK
        touched = self._fleet.take_touched()
        for key in overdue(self._flights, now):
            self._flights.pop(key).lost(now)
        troubled = [found for name in self._troubled if (found := self._units.get(name)) is not None]
        groups = {unit.group.name: unit.group for unit in (*touched, *troubled)}
        for group in groups.values():
            group.review(now)
        members = [unit for group in groups.values() for unit in group.members]
        for unit in members:
            self._chronicle.see(unit, now)
        self._troubled = frozenset(unit.name for unit in members if unit.troubled(now))
        if self._changed or self._news or groups or now - self._state.at >= RENEW:
            self._state = State(self._state.version + 1, now, self._units, self._troubled)
        self._changed = self._news = False

    # ---- what follows

    def steer(
        self, order: Sequence[str], request_id: str, operation: Operation.ValueType = OPERATION_UNSPECIFIED
    ) -> Steering:
        """The order in which a call may try deployments: the given one, or what `Orders` makes of it.

        Args:
            order: Names, the first to be tried first; at least one.
            request_id: The call.
            operation: What it asks for.
        """
        state = self.state()
        first = self._units.get(order[0])
        if first is not None:
            first.group.budget.call(state.at)
            if first.group.hedges is not None:
                first.group.hedges.call()
        if state.troubled.isdisjoint(order):
            return Steering(order)
        return self._orders.around(order, request_id, operation, state, self._clock())

    def may_retry(self, deployment: str) -> bool:
        """Whether the model of a deployment may have another retry now."""
        unit = self._units.get(deployment)
        return unit is None or unit.group.budget.allows(self._clock())

    def hedge_after(self, deployment: str, prompt_tokens: int = 0) -> float | None:
        """Seconds without a first content after which a second deployment may be asked; None when none may."""
        unit = self._units.get(deployment)
        rules = self._fleet.rules.hedging
        if rules is None or unit is None or unit.delays is None or not self.may_hedge(deployment):
            return None
        if unit.group.failing > rules.failing or not unit.group.budget.allows(self._clock()):
            return None
        return unit.delays.delay(prompt_tokens, unit.known)

    def may_hedge(self, deployment: str) -> bool:
        """Whether a hedge is still paid for now that its delay is over."""
        unit = self._units.get(deployment)
        return unit is not None and unit.group.hedges is not None and unit.group.hedges.left

    def hedge(self, rules: HedgeRules | None) -> None:
        """Hedges by these rules from now on; not at all by None."""
        self._fleet.hedge(rules)

    def asks(self) -> list[str]:
        """Ejected deployments that are to be asked now whether they are there, by a call of one token."""
        now = self._clock()
        found = []
        for name in self._troubled:
            unit = self._units.get(name)
            if unit is None or unit.breaker.phase is not Phase.OPEN or now - unit.asked < self._fleet.rules.ask_every:
                continue
            if self._asks.read(now) >= self._fleet.rules.asks:
                break
            self._asks.add(now)
            unit.asked = now
            found.append(name)
        return found

    def told(self, deployment: str, *, there: bool) -> None:
        """What came of asking a deployment: an answer ends its ejection early."""
        unit = self._units.get(deployment)
        if unit is not None and there and unit.breaker.phase is Phase.OPEN:
            unit.breaker.alive(self._clock())
            self._changed = True
