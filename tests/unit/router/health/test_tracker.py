"""Health as a whole: what attempts do to how deployments stand, and what that does to calls."""

import gc
import tracemalloc

import pytest
from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, OPERATION_EMBEDDING, Operation
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.router.health.flight import LEASE
from polyroute.router.health.hedge import HedgeRules
from polyroute.router.health.outcomes import Outcome
from polyroute.router.health.scores import FEW
from polyroute.router.health.unit import Rules, Verdict
from tests.unit.router.health.helpers import BAD, GONE, GOOD, NO_VECTORS, RATE, House, push, stats, window


class TestEjection:
    def test_everything_is_well(self) -> None:
        """Nothing is changed about an order."""
        house = House("a", "b")
        house.attempt("a", count=50)

        assert (["a", "b"], Verdict.ALLOWED) == (house.order(), house.verdict("a"))

    def test_at_once(self) -> None:
        """The call after the fifth failure goes elsewhere, and the reason is there to read."""
        house = House("a", "b")
        house.attempt("a", BAD, 4)
        before = house.order()
        house.attempt("a", BAD)
        steering = house.health.steer(house.names, "call")

        assert (["a", "b"], ["b"]) == (before, list(steering.order))
        assert [("a", Verdict.EJECTED, "failures in a row", 5.0)] == [
            (name, one.verdict, one.reason, one.number) for name, one in steering.passed
        ]

    @pytest.mark.parametrize(
        "fault",
        [pb.FAULT_CLIENT, pb.FAULT_CONTEXT, pb.FAULT_FILTER, pb.FAULT_UNSUPPORTED],
    )
    def test_not_for_what_the_caller_did(self, fault: pb.Fault.ValueType) -> None:
        """A caller who sends nonsense takes nothing from the others."""
        house = House("a", "b")
        house.attempt("a", Outcome(fault, status=400), 500)

        assert ["a", "b"] == house.order()

    def test_not_for_calls_that_were_cancelled(self) -> None:
        """Neither a caller who leaves nor a hedge that loses is the vendor's failure."""
        house = House("a", "b")
        house.attempt("a", Outcome(cancelled=True), 500)
        house.clock.now += 2.0

        assert ["a", "b"] == house.order()

    def test_what_began_before_does_not_count(self) -> None:
        """Good answers that were on their way do not bring back a deployment that fails since."""
        house = House("a", "b")
        for number in range(3):
            house.health.begin("a", f"old-{number}")
        house.attempt("a", BAD, 5)
        for number in range(3):
            house.health.end("a", f"old-{number}", GOOD)

        assert ["b"] == house.order()

    def test_comes_back_by_probes(self) -> None:
        """After the ejection one call at a time tries it first; three good ones and it is back, slowly."""
        house = House("a", "b")
        house.attempt("a", BAD, 5)
        house.clock.now += 40.0
        orders = []
        for number in range(3):
            orders += [house.order(f"probe-{number}"), house.order(f"other-{number}")]
            house.health.begin("a", f"probe-{number}")
            house.health.end("a", f"probe-{number}", GOOD)

        assert [["a", "b"], ["b"]] * 3 == orders
        first = [house.order(f"call-{number}")[0] for number in range(400)]
        assert 0.1 == pytest.approx(first.count("a") / 400, abs=0.05)
        house.clock.now += 31.0
        assert ["a", "b"] == house.order()

    def test_a_probe_may_fail_over(self) -> None:
        """Whoever probes has the others behind it."""
        house = House("a", "b", "c")
        house.attempt("c", BAD, 5)
        house.clock.now += 40.0
        steering = house.health.steer(house.names, "call")

        assert ("c", ["c", "a", "b"]) == (steering.probe, list(steering.order))

    def test_asked_and_there(self) -> None:
        """A deployment that answers when it is asked need not wait for the end of its ejection."""
        house = House("a", "b")
        house.attempt("a", BAD, 5)
        house.order()
        asked = [house.health.asks(), house.health.asks()]
        house.health.told("a", there=False)
        before = house.verdict("a")
        house.clock.now += 2.0
        asked.append(house.health.asks())
        house.health.told("a", there=True)

        assert [["a"], [], ["a"]] == asked
        assert (Verdict.EJECTED, Verdict.PROBE) == (before, house.verdict("a"))

    def test_asking_is_budgeted(self) -> None:
        """Sixty times a minute, however many are ejected."""
        names = [f"d{number}" for number in range(100)]
        house = House(*names)
        for name in names:
            house.attempt(name, BAD, 5)
        house.health.state()

        assert 60 == len(house.health.asks())

    def test_half_of_the_deployments_at_most(self) -> None:
        """Two of three are bad: the worse one goes, the other one stays with what it still accepts."""
        house = House("a", "b", "c")
        house.attempt("c", GOOD, 100)
        house.attempt("a", GOOD, 2)
        house.attempt("a", BAD, 5)
        house.attempt("b", BAD, 5)

        assert {"a", "c"} == set(house.order())
        assert ("bad, and too many are", Verdict.ALLOWED) == house.health.state().of("a")[1::-1]

    def test_an_outlier_among_peers(self) -> None:
        """One that fails a third of its calls goes when its peers fail none of theirs."""
        names = [f"d{number}" for number in range(8)]
        house = House(*names)
        for number in range(150):
            for name in names:
                house.attempt(name, BAD if name == "d3" and number % 3 == 0 else GOOD)
        house.clock.now += 1.0

        assert "success rate below its peers'" == house.health.state().of("d3").reason
        assert "d3" not in house.order()

    def test_slow_ones_get_less(self) -> None:
        """Ten times the usual first-token time leaves three tenths of the traffic, and never ejects."""
        house = House("a", "b", "c")
        house.attempt("a", GOOD._replace(first_token_ms=4000.0, total_ms=6000.0), 50)
        house.attempt("b", GOOD, 50)
        house.attempt("c", GOOD, 50)
        house.clock.now += 1.0
        first = [house.order(f"call-{number}")[0] for number in range(600)]

        assert "slow" == house.health.state().of("a").reason
        assert 0.3 == pytest.approx(first.count("a") / 600, abs=0.05)
        assert {"a", "b", "c"} == set(house.order())

    def test_silence(self) -> None:
        """One that no longer answers is out long before its attempts time out."""
        house = House("a", "b")
        house.attempt("a", GOOD, 50)
        house.clock.now += 1.0
        house.order()
        for number in range(20):
            house.health.begin("a", f"stuck-{number}")
        house.clock.now += 10.0

        assert ["b"] == house.order()
        assert "silent" == house.health.state().of("a").reason

    def test_silence_while_older_answers_go_on(self) -> None:
        """The end of an answer that had begun says nothing of those that do not begin."""
        house = House("a", "b")
        house.attempt("a", GOOD, 50)
        house.health.begin("a", "long")
        house.health.answered("long")
        house.clock.now += 1.0
        house.order()
        for number in range(20):
            house.health.begin("a", f"stuck-{number}")
        house.clock.now += 2.5
        house.health.end("a", "long", GOOD)
        house.clock.now += 2.0

        assert ["b"] == house.order()
        assert "silent" == house.health.state().of("a").reason

    def test_lost_attempts_are_no_silence_for_ever(self) -> None:
        """Those of a process that is gone: after the next answer they say nothing any more."""
        house = House("a", "b")
        house.attempt("a", GOOD, 50)
        for number in range(20):
            house.health.begin("a", f"lost-{number}")
        house.clock.now += 20.0
        house.attempt("a", GOOD, 5)
        before = house.order()
        house.clock.now += 20.0

        assert [["a", "b"]] * 2 == [before, house.order()]

    @pytest.mark.parametrize("how", ["answered", "ended"])
    def test_attempt_at_another_deployment(self, how: str) -> None:
        """The plan's first had no room: nothing is waited for there, and what came of the other is the other's."""
        house = House("a", "b")
        house.attempt("a", GOOD, 50)
        house.attempt("b", GOOD, 50)
        house.clock.now += 1.0
        for number in range(20):
            house.health.begin("a", f"full-{number}")
            if how == "answered":
                house.health.answered(f"full-{number}", deployment="b")
            else:
                house.health.end("b", f"full-{number}", BAD)
        house.clock.now += 10.0
        order = house.order()

        assert Verdict.ALLOWED is house.verdict("a")
        assert (["a", "b"] if how == "answered" else ["a"]) == order

    def test_long_answers_are_no_silence(self) -> None:
        """Their content came, and nothing else is waited for."""
        house = House("a", "b")
        house.attempt("a", GOOD, 50)
        for number in range(20):
            house.health.begin("a", f"long-{number}")
        house.clock.now += 1.0
        for number in range(20):
            house.health.answered(f"long-{number}")
        house.clock.now += 30.0

        assert ["a", "b"] == house.order()

    def test_less_for_those_that_accept_less(self) -> None:
        """Four of five refused, never five in a row: it gets what it can bear."""
        house = House("a", "b")
        for _ in range(3):
            for _ in range(4):
                house.attempt("a", BAD, 4)
                house.attempt("a", GOOD)
            house.clock.now += 11.0
        state = house.health.state().of("a")

        assert "failures in a row" not in state.reason
        assert state.share < 0.6 or state.verdict is not Verdict.ALLOWED


class TestFigures:
    def test_unknown(self) -> None:
        """What nobody has asked is unknown, allowed and worth a try."""
        house = House("a")
        state = house.health.state()
        standing = state.of("a")

        assert (None, Verdict.ALLOWED, ["a"]) == (standing.figures.success, standing.verdict, state.stale(["a"]))
        assert state.of("stranger").figures == state.of("a").figures

    def test_a_version_does_not_change(self) -> None:
        """What was read once is read again, and the next second has another version."""
        house = House("a")
        house.attempt("a", GOOD, 10)
        house.clock.now += 1.0
        state = house.health.state()
        first = state.of("a")
        house.attempt("a", GOOD._replace(first_token_ms=9000.0), 100)
        same = house.health.state()
        house.clock.now += 1.0

        assert state is same
        assert first is same.of("a")
        assert house.health.state().version > state.version
        assert house.health.state().of("a").figures.first_token != first.figures.first_token

    def test_from_metrics(self) -> None:
        """What other processes saw is known too, and goes when metrics no longer says it."""
        house = House("a")
        house.health.pushed(push(stats("a", window(60), window(200), window(900))))
        house.clock.now += 1.0
        known = house.health.state().of("a").figures
        house.health.pushed(push())
        house.clock.now += 1.0

        assert (60.0, None) == (known.weight, house.health.state().of("a").figures.success)

    def test_in_flight(self) -> None:
        """What is under way is counted, once, and given back when nobody ever says how it ended."""
        house = House("a")
        for number in (1, 2, 2):
            house.health.begin("a", f"call-{number}")
        house.clock.now += 1.0
        counts = [house.health.state().of("a").figures.in_flight]
        house.health.end("a", "call-1", GOOD)
        house.clock.now += LEASE
        house.health.state()
        house.clock.now += 5.0
        counts.append(house.health.state().of("a").figures.in_flight)

        assert [2, 0] == counts

    def test_an_end_without_a_beginning(self) -> None:
        """After a restart the ends of earlier attempts come in; they count, and nothing becomes negative."""
        house = House("a")
        for number in range(20):
            house.health.end("a", f"call-{number}", GOOD)
        house.clock.now += 1.0
        figures = house.health.state().of("a").figures

        assert (0, False) == (figures.in_flight, figures.stale)

    def test_old_figures_are_stale(self) -> None:
        """Two minutes after the last call, somebody should look again."""
        house = House("a")
        house.attempt("a", GOOD, 100)
        house.clock.now += 1.0
        fresh = house.health.state().stale(["a"])
        house.clock.now += 120.0

        assert ([], ["a"]) == (fresh, house.health.state().stale(["a"]))
        assert house.health.state().of("a").figures.weight < FEW


class TestBudgets:
    def test_retries(self) -> None:
        """What the calls paid for is allowed, and then no more."""
        house = House("a", "b")
        for number in range(50):
            house.order(f"call-{number}")
        allowed = 0
        while house.health.may_retry("a"):
            house.attempt("b", GOOD, attempt=2)
            allowed += 1

        assert 10 == allowed

    def test_a_retry_that_is_answered_makes_room(self) -> None:
        """Three retries may wait at once; one that is being answered does not wait."""
        house = House("a")
        for number in range(100):
            house.order(f"call-{number}")
        for number in range(3):
            house.health.begin("a", f"retry-{number}", attempt=2)
        before = house.health.may_retry("a")
        house.health.answered("retry-0", attempt=2)

        assert (False, True) == (before, house.health.may_retry("a"))

    def test_hedging_is_off(self) -> None:
        """Unless somebody asks for it."""
        house = House("a", "b")
        for number in range(200):
            house.order(f"call-{number}")
            house.attempt("a")

        assert (None, False) == (house.health.hedge_after("a"), house.health.may_hedge("a"))

    def test_hedging(self) -> None:
        """With paid budget and known times there is a delay; while the model fails there is none."""
        house = House("a", "b", rules=Rules(hedging=HedgeRules()))
        for number in range(200):
            house.order(f"call-{number}")
            house.attempt("a")
        delay = house.health.hedge_after("a")
        house.attempt("b", BAD, 40)
        house.clock.now += 1.0
        house.health.state()

        assert 0.4 == pytest.approx(delay, rel=0.03)
        assert house.health.hedge_after("a") is None

    def test_hedges_are_spent(self) -> None:
        """Two hundred calls pay for four."""
        house = House("a", "b", rules=Rules(hedging=HedgeRules()))
        for number in range(200):
            house.order(f"call-{number}")
        hedges = 0
        while house.health.may_hedge("a"):
            hedges += 1
            house.health.begin("b", f"call-{hedges}", attempt=2, hedged=True)

        assert 4 == hedges


def test_memory_does_not_grow_with_traffic() -> None:
    """Fifty thousand calls leave behind what five thousand do."""
    house = House("a", "b", "c")

    def traffic(count: int) -> None:
        for number in range(count):
            house.clock.now += 0.02
            house.order(f"call-{number}")
            name = house.names[number % 3]
            house.attempt(name, BAD if number % 11 == 0 else GOOD._replace(first_token_ms=300.0 + number % 500))

    traffic(5_000)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    traffic(20_000)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert after - before < 200_000


OUTCOMES = [
    GOOD,
    BAD,
    Outcome(pb.FAULT_SERVER, status=503),
    Outcome(pb.FAULT_STALL, total_ms=60_000.0),
    Outcome(pb.FAULT_CLIENT, status=400),
    Outcome(pb.FAULT_CREDENTIAL, status=401),
    GONE,
    NO_VECTORS,
    RATE,
    Outcome(cancelled=True),
]


class Traffic(RuleBasedStateMachine):
    """Whatever happens to a model of a few deployments."""

    def __init__(self) -> None:
        super().__init__()
        self.house = House("a", "b", "c", "d")
        self.flights: dict[str, str] = {}
        self.probes: dict[str, tuple[str, float]] = {}
        self.version = 0
        self.number = 0

    @rule(seconds=st.sampled_from([0.0, 0.05, 1.0, 3.0, 12.0, 40.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.house.clock.now += seconds

    @rule(name=st.sampled_from("abcd"), outcome=st.sampled_from(OUTCOMES), count=st.integers(1, 8))
    def attempts(self, name: str, outcome: Outcome, count: int) -> None:
        self.house.attempt(name, outcome, count)

    @rule(begins=st.booleans(), operation=st.sampled_from([OPERATION_CHAT, OPERATION_EMBEDDING]))
    def call(self, begins: bool, operation: Operation.ValueType) -> None:
        self.number += 1
        request_id = f"flight-{self.number}"
        steering = self.house.health.steer(self.house.names, request_id, operation)
        assert bool(steering.order) == (steering.refusal is None)
        assert len(set(steering.order)) == len(steering.order)
        assert set(steering.order) | {name for name, _ in steering.passed} == set(self.house.names)
        state = self.house.health.state()
        for name in steering.order:
            assert state.of(name, operation).verdict is not Verdict.COOLING
        if steering.refusal is not None:
            assert 0 <= steering.refusal.retry_after <= 3600
        if steering.order and begins:
            self.begin(steering.order[0], request_id, steering.probe)

    def begin(self, name: str, request_id: str, probe: str) -> None:
        if probe:
            other, since = self.probes.get(probe, ("", 0.0))
            assert other not in self.flights or self.house.clock.now - since >= 90.0
            self.probes[probe] = (request_id, self.house.clock.now)
        self.flights[request_id] = name
        self.house.health.begin(name, request_id)

    @precondition(lambda self: self.flights)
    @rule(outcome=st.sampled_from(OUTCOMES), answered=st.booleans(), data=st.data())
    def land(self, outcome: Outcome, answered: bool, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.flights)))
        if answered:
            self.house.health.answered(request_id)
        self.house.health.end(self.flights.pop(request_id), request_id, outcome)

    @rule(name=st.sampled_from("abcd"), there=st.booleans())
    def asked(self, name: str, there: bool) -> None:
        self.house.health.told(name, there=there)

    @invariant()
    def versions_only_grow(self) -> None:
        version = self.house.health.state().version
        assert self.version <= version
        self.version = version

    @invariant()
    def half_are_ejected_or_all_are_bad(self) -> None:
        units = self.house.health._units.values()
        out = [unit for unit in units if unit.out]

        assert len(out) <= 2 or all(not unit.closed for unit in units)

    @invariant()
    def counts_what_is_under_way(self) -> None:
        self.house.health.state()
        units = self.house.health._units.values()
        old = self.house.clock.now - LEASE  # what is older is no longer counted once somebody looks

        assert all(unit.in_flight >= 0 for unit in units)
        assert sum(unit.in_flight for unit in units) == len(self.house.health._flights)
        assert all(flight.began >= old - 1 for flight in self.house.health._flights.values())
        assert next(iter(units)).group.budget.active == len(self.house.health._flights)


Traffic.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestTraffic = seed(20261123)(Traffic.TestCase)
