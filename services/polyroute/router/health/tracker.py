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
from dataclasses import replace
from typing import Final, NamedTuple

from polyroute.api.chat.v1.chat_pb2 import OPERATION_UNSPECIFIED, Operation
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.api.metrics.v1.metrics_pb2 import WatchStatsResponse
from polyroute.router.health.breaker import Phase
from polyroute.router.health.chance import chance
from polyroute.router.health.cooldown import Cooldown, of_operation, of_provider
from polyroute.router.health.hedge import Delays, HedgeBudget, HedgeRules
from polyroute.router.health.outcomes import CALLERS, RESTS, Outcome, failure_weight
from polyroute.router.health.scores import UNKNOWN
from polyroute.router.health.unit import Group, Member, Rules, Standing, Unit, Verdict, least_bad
from polyroute.router.health.window import Counter

TICK: Final = 1.0  # s between two looks at everything that moves by itself
LEASE: Final = 900.0  # s after which an attempt that never ended no longer counts as under way
RENEW: Final = 5.0  # s after which figures have aged so far that a state is made anew, though nothing came in
STRANGERS: Final = 2000  # deployments that no catalog names; callers may think of many
COME_BACK: Final = 1.0  # s: what a caller is told when a model is down as a whole
_NEW: Final = Standing(Verdict.ALLOWED, "", 0.0, 1.0, UNKNOWN)


class Refusal(NamedTuple):
    """Why a call cannot be served now.

    Args:
        fault: What the deployments suffer from, of the one that is back first; FAULT_UNSPECIFIED when they are down.
        retry_after: Seconds until another try makes sense.
    """

    fault: Fault.ValueType
    retry_after: float


class Steering(NamedTuple):
    """The order in which a call tries deployments, after health was heard.

    Args:
        order: Names, the first to be tried first; empty when refused.
        probe: The one that this call is the probe of; empty when it is none's.
        passed: Those that were put back or left out, and how they stand.
        refusal: Why nobody is tried; None when somebody is.
    """

    order: Sequence[str]
    probe: str = ""
    passed: tuple[tuple[str, Standing], ...] = ()
    refusal: Refusal | None = None


class Resting(NamedTuple):
    """Something that is left alone, as routers tell each other.

    Args:
        name: Of a deployment, or of a provider, whose keys all its deployments are asked with.
        provider: It is a provider's.
        fault: Why.
        seconds: How long from now.
        operation: The only one that rests; OPERATION_UNSPECIFIED stands for all.
    """

    name: str
    provider: bool
    fault: Fault.ValueType
    seconds: float
    operation: Operation.ValueType = OPERATION_UNSPECIFIED


class State:
    """How all deployments stand at a version; each is worked out when it is first asked for, and then stays.

    Args:
        version: Grows with every change.
        at: The time.
        units: The deployments.
        troubled: Names of those that anything keeps calls from.
    """

    __slots__ = ("_standings", "_units", "at", "troubled", "version")

    def __init__(self, version: int, at: float, units: dict[str, Unit], troubled: frozenset[str]) -> None:
        self.version = version
        self.at = at
        self.troubled = troubled
        self._units = units
        self._standings: dict[tuple[str, int], Standing] = {}

    def of(self, deployment: str, operation: Operation.ValueType = OPERATION_UNSPECIFIED) -> Standing:
        """How a deployment stands, for an operation or as a whole."""
        key = (deployment, operation)
        found = self._standings.get(key)
        if found is None:
            unit = self._units.get(deployment)
            if unit is None:
                return _NEW
            if operation and operation not in unit.gone:
                return self.of(deployment)
            found = self._standings[key] = unit.standing(self.at, operation)
        return found

    def stale(self, deployments: Iterable[str]) -> list[str]:
        """Those of some deployments that may be tried and whose figures are old or missing."""
        standings = ((name, self.of(name)) for name in deployments)
        return [name for name, one in standings if one.verdict is Verdict.ALLOWED and one.figures.stale]


class _Flight:
    """An attempt under way."""

    __slots__ = ("answered", "began", "epoch", "request_id", "retry", "unit")

    def __init__(self, unit: Unit, request_id: str, began: float, retry: bool) -> None:
        self.unit = unit
        self.request_id = request_id
        self.began = began
        self.epoch = unit.breaker.epoch
        self.retry = retry
        self.answered = False


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
        self._rules = rules or Rules()
        self._clock = clock
        self._chance = random.Random(seed).random  # noqa: S311 - spreads ejections, no secret
        self._units: dict[str, Unit] = {}
        self._groups: dict[str, Group] = {}
        self._houses: dict[str, Cooldown] = {}
        self._strangers: dict[str, None] = {}  # the one met first first
        self._flights: dict[tuple[str, int], _Flight] = {}  # the oldest first
        self._touched: list[Unit] = []
        self._troubled: frozenset[str] = frozenset()
        self._asks = Counter(60)
        self._rests: list[Resting] = []  # that began here, and were not yet taken
        self._changed = False
        self._news = False  # metrics sent something
        self._due = 0.0
        self._state = State(0, clock(), self._units, self._troubled)

    # ---- what there is

    def arrange(self, members: Iterable[Member]) -> None:
        """Takes in the deployments of a catalog: those that stay keep what is known of them."""
        now = self._clock()
        wanted = {member.deployment: member for member in members}
        for name in self._units.keys() - wanted.keys():
            self._drop(self._units[name])
        for member in wanted.values():
            unit = self._units.get(member.deployment)
            if unit is None:
                self._add(member, now)
            elif unit.member != member:
                self._move(unit, member)
        self._changed = True

    def _add(self, member: Member, now: float) -> Unit:
        group = self._group(member.group)
        unit = Unit(member, group, self._house(member), self._rules, self._chance, now)
        group.members.append(unit)
        self._units[member.deployment] = unit
        return unit

    def _move(self, unit: Unit, member: Member) -> None:
        """A deployment's model, provider or number of keys is another now."""
        unit.group.members.remove(unit)
        unit.group = self._group(member.group)
        unit.group.members.append(unit)
        if unit.member.provider != member.provider or unit.member.keys != member.keys:
            unit.cooldown = Cooldown(member.keys)
            unit.gone.clear()
            unit.house = self._house(member)
        unit.member = member

    def _group(self, name: str) -> Group:
        found = self._groups.get(name)
        if found is None:
            found = self._groups[name] = Group(name, self._rules)
        return found

    def _house(self, member: Member) -> Cooldown:
        found = self._houses.get(member.provider)
        if found is None:
            found = self._houses[member.provider] = Cooldown(member.keys)
        return found

    def _drop(self, unit: Unit) -> None:
        del self._units[unit.name]
        self._strangers.pop(unit.name, None)
        unit.group.members.remove(unit)
        if not unit.group.members:
            self._groups.pop(unit.group.name, None)

    def _met(self, deployment: str, now: float) -> Unit:
        """A deployment that no catalog names: its model is asked for as `provider/model`."""
        if len(self._strangers) >= STRANGERS:
            self._drop(self._units[next(iter(self._strangers))])
        self._strangers[deployment] = None
        return self._add(Member(deployment, deployment, deployment.partition("/")[0]), now)

    def forgive(self, provider: str) -> None:
        """A provider's keys were changed: what was refused may be granted."""
        house = self._houses.get(provider)
        if house is not None:
            house.forget()
        for unit in self._units.values():
            if unit.member.provider == provider:
                unit.forgive()
                self._touch((unit,))
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
        unit = self._units.get(deployment) or self._met(deployment, now)
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
            self._lost(self._flights.pop(key), now)
        self._flights[key] = _Flight(unit, request_id, now, retry)
        if not unit.touched:
            unit.touched = True
            self._touched.append(unit)

    def answered(self, request_id: str, *, attempt: int = 1) -> None:
        """The first content of an attempt came."""
        flight = self._flights.get((request_id, attempt))
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
        if flight is None:
            flight = self._unseen(deployment, request_id, outcome, now)
        else:
            self._landed(flight)
        unit = flight.unit
        if not unit.touched:
            unit.touched = True
            self._touched.append(unit)
        if outcome.cancelled:
            if not flight.answered:
                unit.throttle.dropped(flight.began, now)
            return
        if not flight.answered:  # else it was heard of when the answer began: the end of it says nothing of new calls
            unit.heard = now
        if outcome.fault == pb.FAULT_UNSPECIFIED:
            self._good(flight, outcome, now)
        elif outcome.fault in CALLERS:
            self._callers(flight, outcome, now)
        else:
            self._bad(flight, outcome, now)

    def _unseen(self, deployment: str, request_id: str, outcome: Outcome, now: float) -> _Flight:
        unit = self._units.get(deployment) or self._met(deployment, now)
        flight = _Flight(unit, request_id, now, retry=False)
        unit.throttle.sent(now)
        return flight

    def _landed(self, flight: _Flight) -> None:
        unit = flight.unit
        unit.in_flight -= 1
        budget = unit.group.budget
        budget.active -= 1
        if flight.retry:
            budget.retrying -= 1
        if unit.breaker.phase is not Phase.CLOSED:
            unit.breaker.release(flight.request_id)

    def _good(self, flight: _Flight, outcome: Outcome, now: float) -> None:
        unit = flight.unit
        unit.recent.good(outcome, now)
        unit.news()
        if not flight.answered:
            unit.throttle.accepted(flight.began, now)
        if unit.delays is not None and outcome.first_token_ms > 0:
            unit.delays.add(outcome.prompt_tokens, outcome.first_token_ms)
        unit.worked(outcome.key, outcome.operation, now)
        breaker = unit.breaker
        if flight.epoch != breaker.epoch:
            return  # it began before the breaker opened, when the vendor may still have been well
        was = breaker.phase
        breaker.success(now)
        if breaker.phase is not was:
            unit.throttle.forget()
            self._changed = True

    def _callers(self, flight: _Flight, outcome: Outcome, now: float) -> None:
        """The vendor did its part: it read the request and said what is wrong with it."""
        if flight.answered:
            return
        if outcome.fault == pb.FAULT_UNSUPPORTED:  # nothing was sent
            flight.unit.throttle.dropped(flight.began, now)
        else:
            flight.unit.throttle.accepted(flight.began, now)

    def _bad(self, flight: _Flight, outcome: Outcome, now: float) -> None:
        unit = flight.unit
        unit.recent.bad(now)
        unit.news()
        if not flight.answered:
            if outcome.fault in RESTS and outcome.fault != pb.FAULT_RATE:
                unit.throttle.dropped(flight.began, now)  # it says nothing of how much is too much
            else:
                unit.throttle.refused(flight.began, now)
        if outcome.fault in RESTS:
            self._rest(unit, outcome, now)
            return
        breaker = unit.breaker
        weight = failure_weight(outcome.fault, outcome.status)
        if weight and flight.epoch == breaker.epoch:
            breaker.failure(now, weight)
            self._changed |= breaker.epoch != flight.epoch

    def take_rests(self) -> list[Resting]:
        """What began to rest since the last time, for other routers."""
        taken, self._rests = self._rests, []
        return taken

    def rest(self, told: Resting) -> None:
        """Another router says what rests; nothing shorter than what is known here changes anything."""
        now = self._clock()
        if told.fault not in RESTS:
            return
        unit = self._units.get(told.name)
        own = unit.place(told.fault, told.operation) if unit else None
        place = self._houses.get(told.name) if told.provider else own
        if place is None:
            return
        known = place.current(now)
        if known is None or known.until < now + told.seconds - 1:
            place.rest(Outcome(fault=told.fault, retry_after=told.seconds), now)
            self._changed = True
            self._touch(one for one in self._units.values() if one is unit or one.house is place)

    def _rest(self, unit: Unit, outcome: Outcome, now: float) -> None:
        operation = of_operation(outcome.fault, outcome.operation)
        rested = unit.resting(now, operation) is not None
        whole = of_provider(outcome)
        place = unit.house if whole else unit.place(outcome.fault, operation)
        place.rest(outcome, now)
        current = place.current(now)
        if current is not None and len(self._rests) < STRANGERS:
            name = unit.member.provider if whole else unit.name
            self._rests.append(Resting(name, whole, outcome.fault, current.until - now, operation))
        if not rested:
            self._changed = True
            self._touch(one for one in self._units.values() if one.house is unit.house)

    def _touch(self, units: Iterable[Unit]) -> None:
        """Has them looked at in the next review."""
        for unit in units:
            if not unit.touched:
                unit.touched = True
                self._touched.append(unit)

    # ---- what is known

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
        touched, self._touched = self._touched, []
        for unit in touched:
            unit.touched = False
        for key in self._overdue(now):
            self._lost(self._flights.pop(key), now)
        troubled = [found for name in self._troubled if (found := self._units.get(name)) is not None]
        groups = {unit.group.name: unit.group for unit in (*touched, *troubled)}
        for group in groups.values():
            group.review(now)
        members = [unit for group in groups.values() for unit in group.members]
        self._troubled = frozenset(unit.name for unit in members if unit.troubled(now))
        if self._changed or self._news or groups or now - self._state.at >= RENEW:
            self._state = State(self._state.version + 1, now, self._units, self._troubled)
        self._changed = self._news = False

    def _overdue(self, now: float) -> list[tuple[str, int]]:
        found = []
        for key, flight in self._flights.items():
            if now - flight.began < LEASE:
                break
            found.append(key)
        return found

    def _lost(self, flight: _Flight, now: float) -> None:
        """Whoever made this attempt will not say any more how it ended."""
        self._landed(flight)
        if not flight.answered:
            flight.unit.throttle.dropped(flight.began, now)

    # ---- what follows

    def steer(
        self, order: Sequence[str], request_id: str, operation: Operation.ValueType = OPERATION_UNSPECIFIED
    ) -> Steering:
        """The order in which a call may try deployments.

        A deployment that waits for a probe comes first for one call at a time; one that gets a share of its calls only
        comes last for the rest of them; ejected and resting ones are left out. When nobody is left, the least bad one
        is tried as far as the model's retry budget reaches, and else the call is refused.

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
        return self._steered(order, request_id, operation, state)

    def _steered(self, order: Sequence[str], request_id: str, operation: Operation.ValueType, state: State) -> Steering:
        now = self._clock()
        fine: list[str] = []
        later: list[str] = []
        passed: list[tuple[str, Standing]] = []
        for name in order:
            standing = state.of(name, operation)
            if standing.verdict is not Verdict.ALLOWED:
                passed.append((name, standing))
            elif standing.share >= 1 or chance(request_id, name) < standing.share:
                fine.append(name)
            else:
                later.append(name)
                passed.append((name, standing))
        able = fine + later
        probe = self._claimed(passed, request_id, now)
        if probe:  # nobody knows whether it works: another one follows, if only the least bad
            behind = able or [name for name in self._least_bad(passed) if name != probe]
            return Steering([probe, *behind], probe, tuple(one for one in passed if one[0] != probe))
        if able:
            return Steering(able, "", tuple(passed))
        return self._panic(tuple(passed), operation, now)

    def _least_bad(self, passed: Iterable[tuple[str, Standing]]) -> list[str]:
        """Those that do not rest, the least bad one first."""
        down = [self._units[name] for name, standing in passed if standing.verdict is not Verdict.COOLING]
        return [unit.name for unit in least_bad(down)]

    def _claimed(self, passed: Iterable[tuple[str, Standing]], request_id: str, now: float) -> str:
        """The first that waits for a probe, which this call now is."""
        for name, standing in passed:
            if standing.verdict is Verdict.PROBE and self._units[name].breaker.claim(request_id, now):
                return name
        return ""

    def _panic(self, passed: tuple[tuple[str, Standing], ...], operation: Operation.ValueType, now: float) -> Steering:
        """Nobody is left: the least bad ones, or nobody."""
        down = self._least_bad(passed)
        if down and (budget := self._units[down[0]].group.budget).balance(now) >= 1:
            budget.spend(now)
            return Steering(down, "", passed)
        if down:
            return Steering((), "", passed, Refusal(pb.FAULT_UNSPECIFIED, COME_BACK))
        rests = [rest for name, _ in passed if (rest := self._units[name].resting(now, operation)) is not None]
        if not rests:  # the last rest ended since the state was made
            return Steering([name for name, _ in passed], "", passed)
        soonest = min(rests, key=lambda rest: rest.until)
        return Steering((), "", passed, Refusal(soonest.fault, soonest.until - now))

    def may_retry(self, deployment: str) -> bool:
        """Whether the model of a deployment may have another retry now."""
        unit = self._units.get(deployment)
        return unit is None or unit.group.budget.allows(self._clock())

    def hedge_after(self, deployment: str, prompt_tokens: int = 0) -> float | None:
        """Seconds without a first content after which a second deployment may be asked; None when none may."""
        unit = self._units.get(deployment)
        rules = self._rules.hedging
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
        if rules == self._rules.hedging:
            return
        self._rules = replace(self._rules, hedging=rules)
        for group in self._groups.values():
            group.hedges = HedgeBudget(rules) if rules else None
        for unit in self._units.values():
            unit.delays = Delays(rules) if rules else None

    def asks(self) -> list[str]:
        """Ejected deployments that are to be asked now whether they are there, by a call of one token."""
        now = self._clock()
        found = []
        for name in self._troubled:
            unit = self._units.get(name)
            if unit is None or unit.breaker.phase is not Phase.OPEN or now - unit.asked < self._rules.ask_every:
                continue
            if self._asks.read(now) >= self._rules.asks:
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
