"""Whose turn it is when more calls come than may be under way at once."""

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import count
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from polyroute.edge.line import Criticality, Line, Waiter

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

    def p99(self, tenant: str) -> float:
        took = sorted(self.took[tenant])
        return took[int(len(took) * 0.99)]


def play(line: Line, calls: Iterable[Arrival], patience: float = 5.0) -> Played:
    """Has calls come, wait, give up and end, by a clock of its own."""
    took: dict[str, list[float]] = defaultdict(list)
    shed = Counter[str]()
    numbers = count()
    events: list[tuple[float, int, object]] = [(call.at, next(numbers), call) for call in calls]
    heapq.heapify(events)
    waiting: dict[Waiter, Arrival] = {}

    def begin(call: Arrival, now: float) -> None:
        took[call.tenant].append(now + call.seconds - call.at)
        heapq.heappush(events, (now + call.seconds, next(numbers), call.tenant))

    while events:
        now, _, event = heapq.heappop(events)
        if isinstance(event, Arrival):
            if line.enter(event.tenant):
                begin(event, now)
                continue
            waiter, instead = line.wait(event.tenant, event.criticality)
            if waiter is None:
                shed[event.tenant] += 1
            else:
                waiting[waiter] = event
                heapq.heappush(events, (now + patience, next(numbers), waiter))
            if instead is not None:
                shed[waiting.pop(instead).tenant] += 1
        elif isinstance(event, Waiter):
            if event in waiting:
                line.give_up(event)
                shed[waiting.pop(event).tenant] += 1
        elif (turn := line.leave(str(event))) is not None:
            begin(waiting.pop(turn), now)
    return Played(took, shed)


def test_room_is_given_at_once() -> None:
    """And no more than there is."""
    line = Line(2, 2)

    assert [True, True, False] == [line.enter(tenant) for tenant in "abc"]
    assert 2 == line.under_way


def test_more_critical_calls_come_first() -> None:
    """Whoever came when; the least critical is shed for them."""
    line = Line(1, 3)
    line.enter("a")
    (late, _), (middle, _), (first, _) = (line.wait("a", one) for one in (SHEDDABLE, DEFAULT, CRITICAL))
    extra, instead = line.wait("a", CRITICAL)
    turns = [line.leave("a") for _ in range(3)]

    assert [first, extra, middle] == turns
    assert (late, True) == (instead, bool(instead and instead.shed))
    assert (None, None) == Line(1, 0).wait("a", CRITICAL)


def test_whoever_has_least_under_way_is_next() -> None:
    """Ten calls of one tenant wait behind the one of another."""
    line = Line(2, 20)
    line.enter("noisy")
    line.enter("noisy")
    for _ in range(10):
        line.wait("noisy", DEFAULT)
    quiet, _ = line.wait("quiet", DEFAULT)

    assert quiet is line.leave("noisy")


def test_places_are_shared_too() -> None:
    """A tenant with all the places gives one up for another; not for its own calls."""
    line = Line(1, 4)
    line.enter("noisy")
    last = [line.wait("noisy", DEFAULT)[0] for _ in range(4)][-1]
    quiet, instead = line.wait("quiet", DEFAULT)

    assert (None, None) == line.wait("noisy", DEFAULT)
    assert instead is last
    assert quiet is not None


def test_noisy_tenant_slows_nobody_else() -> None:
    """At ten times its share, among nine tenants that keep to theirs: their slowest calls take what they took."""
    quiet = [
        call for number in range(9) for call in arrivals(f"q{number}", 4.0, 120.0, 1.0, seed=number)
    ]  # of sixty places thirty-six: alone, they hardly ever wait
    alone = play(Line(60, 60), quiet)
    beside = play(Line(60, 60), [*quiet, *arrivals("noisy", 66.0, 120.0, 1.0, seed=99)])

    assert 0 == sum(beside.shed[f"q{number}"] for number in range(9))
    assert beside.shed["noisy"] > 1000
    for number in range(9):
        assert beside.p99(f"q{number}") <= 1.2 * alone.p99(f"q{number}")


def test_critical_calls_get_through_an_overload() -> None:
    """Five times what there is room for, a fifth of it critical: all of that, and every place is used."""
    calls = [
        *arrivals("a", 15.0, 60.0, 1.0, 1, CRITICAL),
        *arrivals("b", 45.0, 60.0, 1.0, 2, DEFAULT),
        *arrivals("c", 40.0, 60.0, 1.0, 3, SHEDDABLE),
    ]
    played = play(Line(20, 20), calls)
    served = {tenant: len(played.took[tenant]) / (len(played.took[tenant]) + played.shed[tenant]) for tenant in "abc"}

    assert served["a"] >= 0.99
    assert served["c"] < 0.05
    assert sum(map(len, played.took.values())) >= 0.95 * 20 * 60


@settings(deadline=None)
@given(
    most=st.integers(1, 4),
    places=st.integers(0, 5),
    steps=st.lists(
        st.tuples(
            st.sampled_from(("come", "leave", "give up")), st.sampled_from("abcd"), st.sampled_from(tuple(Criticality))
        ),
        max_size=120,
    ),
)
def test_turns_are_just(most: int, places: int, steps: Sequence[tuple[str, str, Criticality]]) -> None:
    """Bounds hold; nobody waits while there is room; each turn is of the highest class and of whoever has least."""
    line = Line(most, places)
    under_way: Counter[str] = Counter()
    waiting: list[Waiter] = []
    for step, tenant, criticality in steps:
        if step == "come" and line.enter(tenant):
            assert not waiting
            under_way[tenant] += 1
        elif step == "come":
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
        elif step == "leave" and under_way[tenant]:
            under_way[tenant] -= 1
            turn = line.leave(tenant)
            assert (turn is None) == (not waiting)
            if turn is not None:
                waiting.remove(turn)
                under_way[turn.tenant] += 1
                rivals = [other for other in waiting if other.criticality == turn.criticality]
                assert all(other.criticality >= turn.criticality for other in waiting)
                before = under_way[turn.tenant] - 1
                assert all(
                    (under_way[other.tenant], other.number) >= (before, turn.number)
                    for other in rivals
                    if other.tenant != turn.tenant
                )
        elif step == "give up" and waiting:
            line.give_up(waiting.pop(0))

        assert (under_way.total(), len(waiting)) == (line.under_way, line.waiting)
        assert line.under_way <= most
        assert line.waiting <= places
        assert not waiting or line.under_way == most
