"""Whose turn it is when more calls come than may be under way at once."""

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import count
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyroute.edge.headroom import FEW, LATELY
from polyroute.edge.line import USED, Criticality, Line, Waiter
from tests.unit.edge.peers import Clock

CRITICAL, DEFAULT, SHEDDABLE = Criticality


class Arrival(NamedTuple):
    """A call that comes at some time and takes some time, both in seconds."""

    at: float
    tenant: str
    seconds: float
    criticality: Criticality = DEFAULT


def arrivals(
    tenant: str, rate: float, until: float, seconds: float, seed: int, criticality: Criticality = DEFAULT
) -> Iterable[Arrival]:
    """Calls at random, so many a second."""
    chance = random.Random(seed)
    at = chance.expovariate(rate)
    while at < until:
        yield Arrival(at, tenant, seconds * chance.uniform(0.5, 1.5), criticality)
        at += chance.expovariate(rate)


class Played(NamedTuple):
    """What became of calls: how long each took with its wait, and how many were shed."""

    took: dict[str, list[float]]
    shed: Counter[str]

    def p99(self, *tenants: str) -> float:
        took = sorted(seconds for tenant in tenants for seconds in self.took[tenant])
        return took[int(len(took) * 0.99)]


def play(most: int, places: int, calls: Iterable[Arrival], patience: float = 5.0) -> Played:
    """Has calls come, wait, give up and end, by a clock of its own."""
    clock = Clock(0.0)
    line = Line(most, places, clock)
    took: dict[str, list[float]] = defaultdict(list)
    shed = Counter[str]()
    numbers = count()
    events: list[tuple[float, int, Arrival | Waiter | tuple[str, Criticality]]] = [
        (call.at, next(numbers), call) for call in calls
    ]
    heapq.heapify(events)
    waiting: dict[Waiter, Arrival] = {}

    def begin(call: Arrival) -> None:
        took[call.tenant].append(clock.at + call.seconds - call.at)
        heapq.heappush(events, (clock.at + call.seconds, next(numbers), (call.tenant, call.criticality)))

    def turned(turns: Iterable[Waiter]) -> None:
        for turn in turns:
            begin(waiting.pop(turn))

    while events:
        now, _, event = heapq.heappop(events)
        clock.at = now
        if isinstance(event, Arrival):
            if line.enter(event.tenant, event.criticality):
                begin(event)
                continue
            waiter, instead = line.wait(event.tenant, event.criticality)
            if waiter is None:
                shed[event.tenant] += 1
            else:
                waiting[waiter] = event
                heapq.heappush(events, (now + patience, next(numbers), waiter))
            if instead is not None:
                shed[waiting.pop(instead).tenant] += 1
            turned(line.turns())
        elif isinstance(event, Waiter):
            if event in waiting:
                line.give_up(event)
                shed[waiting.pop(event).tenant] += 1
        elif isinstance(event, tuple):
            turned(line.leave(*event))
    return Played(took, shed)


def test_room_is_given_at_once() -> None:
    """And no more than there is."""
    line = Line(2, 2, Clock())

    assert [True, True, False] == [line.enter(tenant, DEFAULT) for tenant in "abc"]
    assert 2 == line.under_way


def test_more_critical_calls_come_first() -> None:
    """Whoever came when; the least critical is shed for them."""
    line = Line(1, 3, Clock())
    line.enter("a", DEFAULT)
    (late, _), (middle, _), (first, _) = (line.wait("a", one) for one in (SHEDDABLE, DEFAULT, CRITICAL))
    extra, instead = line.wait("a", CRITICAL)
    turns = [line.leave("a", one) for one in (DEFAULT, CRITICAL, CRITICAL)]

    assert [[first], [extra], [middle]] == turns
    assert (late, True) == (instead, bool(instead and instead.shed))
    assert (None, None) == Line(1, 0, Clock()).wait("a", CRITICAL)


def test_whoever_has_least_under_way_is_next() -> None:
    """Ten calls of one tenant wait behind the one of another."""
    line = Line(2, 20, Clock())
    line.enter("noisy", DEFAULT)
    line.enter("noisy", DEFAULT)
    for _ in range(10):
        line.wait("noisy", DEFAULT)
    quiet, _ = line.wait("quiet", DEFAULT)

    assert [quiet] == line.leave("noisy", DEFAULT)


def test_calls_that_matter_less_do_not_hold_up_their_tenant() -> None:
    """What counts in a class is what is under way of it and of those above."""
    line = Line(3, 20, Clock())
    for tenant, criticality in (("batches", SHEDDABLE), ("batches", SHEDDABLE), ("other", DEFAULT)):
        line.enter(tenant, criticality)
    line.wait("other", DEFAULT)
    waiter, _ = line.wait("batches", DEFAULT)

    assert [waiter] == line.leave("batches", SHEDDABLE)


def test_places_are_shared_too() -> None:
    """A tenant with all the places gives one up for another; not for its own calls."""
    line = Line(1, 4, Clock())
    line.enter("noisy", DEFAULT)
    last = [line.wait("noisy", DEFAULT)[0] for _ in range(4)][-1]
    quiet, instead = line.wait("quiet", DEFAULT)

    assert (None, None) == line.wait("noisy", DEFAULT)
    assert instead is last
    assert quiet is not None


def test_busy_tenant_leaves_what_others_had_lately() -> None:
    """They find places at once, those that wait are not of them; what they have not wanted for a while is its again."""
    clock = Clock()
    line = Line(20, 40, clock)
    quiet = [f"q{number}" for number in range(6)]
    for tenant in quiet * 2:
        line.enter(tenant, DEFAULT)
    for tenant in quiet * 2:
        line.leave(tenant, DEFAULT)
    noisy = sum(line.enter("noisy", DEFAULT) for _ in range(20))
    waiter, _ = line.wait("noisy", DEFAULT)
    stays = line.turns()
    others = [line.enter(tenant, DEFAULT) for tenant in quiet * 2]
    for tenant, entered in zip(quiet * 2, others, strict=True):
        if entered:
            line.leave(tenant, DEFAULT)
    clock.advance(2 * LATELY)

    assert (10, []) == (noisy, stays)  # half of them, whatever the others had
    assert [True] * 10 + [False] * 2 == others
    assert [waiter] == line.turns()


def test_a_tenant_alone_has_every_place() -> None:
    """However many of its calls end and begin, of whatever class."""
    line = Line(50, 10, Clock())
    chance = random.Random(5)
    has: list[Criticality] = []
    for _ in range(2000):
        criticality = chance.choice(tuple(Criticality))
        if len(has) < 50 and chance.random() < 0.7:
            has.append(criticality)

            assert line.enter("alone", criticality)
        elif has:
            line.leave("alone", has.pop(chance.randrange(len(has))))


@pytest.mark.parametrize(("most", "rate"), [(20, 2.0), (60, 8.0)])
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_noisy_tenant_slows_nobody_else(most: int, rate: float, spread: float) -> None:
    """At ten times the others' pace and more than is left of the places, whether answers take the same time or not."""
    chance = random.Random(28)

    def paced(tenant: str, pace: float, begin: int = 0) -> Iterable[Arrival]:
        for number in range(int(begin * pace), int(30 * pace)):
            seconds = 0.5 * chance.uniform(1 - spread, 1 + spread)
            yield Arrival(number / pace + chance.uniform(0, 0.005), tenant, seconds)

    names = [f"q{number}" for number in range(9)]
    quiet = [call for name in names for call in paced(name, rate)]
    alone = play(most, 2 * most, quiet)
    beside = play(most, 2 * most, [*quiet, *paced("noisy", 20 * rate, 3)])

    assert 0 == sum(beside.shed[name] for name in names)
    assert beside.p99(*names) <= 1.1 * alone.p99(*names)
    assert sum(len(took) for took in beside.took.values()) * 0.5 >= 0.6 * most * 30  # places are in use


def test_critical_calls_get_through_an_overload() -> None:
    """Five times what there is room for, a fifth of it critical: all of that, and every place is used."""
    calls = [
        *arrivals("a", 15.0, 60.0, 1.0, 1, CRITICAL),
        *arrivals("b", 45.0, 60.0, 1.0, 2, DEFAULT),
        *arrivals("c", 40.0, 60.0, 1.0, 3, SHEDDABLE),
    ]
    played = play(20, 20, calls)
    served = {tenant: len(played.took[tenant]) / (len(played.took[tenant]) + played.shed[tenant]) for tenant in "abc"}

    assert served["a"] >= 0.99
    assert served["c"] < 0.05
    assert sum(map(len, played.took.values())) >= 0.95 * 20 * 60


@settings(deadline=None)
@given(
    most=st.integers(1, 24),
    places=st.integers(0, 5),
    steps=st.lists(
        st.tuples(
            st.sampled_from(("come", "come", "come", "leave", "give up", "later")),
            st.sampled_from("aaabcd"),
            st.sampled_from((*Criticality, DEFAULT, DEFAULT)),
        ),
        max_size=200,
    ),
)
def test_turns_are_just(most: int, places: int, steps: Sequence[tuple[str, str, Criticality]]) -> None:
    """Bounds hold; who has few under way never waits while there is room; each turn is of the highest class for which
    there is any, and of whoever has least of it."""
    clock = Clock()
    line = Line(most, places, clock)
    under_way: list[tuple[str, Criticality]] = []
    waiting: list[Waiter] = []

    def has(tenant: str, criticality: Criticality) -> int:
        return sum(name == tenant and one <= criticality for name, one in under_way)

    def turned(turns: Iterable[Waiter]) -> None:
        for turn in turns:
            rivals = [one for one in waiting if one.criticality == turn.criticality and one.tenant != turn.tenant]
            mine = has(turn.tenant, turn.criticality), turn.number
            assert all((has(one.tenant, one.criticality), one.number) >= mine for one in rivals)
            assert all(has(one.tenant, one.criticality) >= FEW for one in waiting if one.criticality < turn.criticality)
            waiting.remove(turn)
            under_way.append((turn.tenant, turn.criticality))

    for step, tenant, criticality in steps:
        if step == "come" and line.enter(tenant, criticality):
            under_way.append((tenant, criticality))
        elif step == "come":
            assert len(under_way) == most or has(tenant, criticality) >= FEW
            waiter, instead = line.wait(tenant, criticality)
            if instead is not None:
                assert waiter is not None
                assert instead.criticality >= criticality
                waiting.remove(instead)
            if waiter is not None:
                waiting.append(waiter)
            else:
                assert len(waiting) == places
                assert all(other.criticality <= criticality for other in waiting)
            turned(line.turns())
        elif step == "leave" and under_way:
            one = next((one for one in under_way if one[0] == tenant), under_way[0])
            under_way.remove(one)
            turned(line.leave(*one))
        elif step == "give up" and waiting:
            line.give_up(waiting.pop(0))
        elif step == "later":
            clock.advance(LATELY / 2)
            turned(line.turns())

        assert (len(under_way), len(waiting)) == (line.under_way, line.waiting)
        assert line.under_way <= most
        assert line.waiting <= places
        room = line.under_way < most
        assert not (room and any(has(one.tenant, one.criticality) < FEW for one in waiting))
        assert not (waiting and line.under_way < most // USED)
