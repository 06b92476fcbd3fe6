"""What stands between ranking and the caller: named policies, a key's regions, the caller's time, health, hedges."""

from typing import Any

import pytest
import structlog

from polyroute.api.chat.v1.chat_pb2 import OPERATION_EMBEDDING
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.errors.v1.errors_pb2 import REASON_INVALID_REQUEST, REASON_NO_DEPLOYMENT, REASON_UPSTREAM
from polyroute.api.metrics.v1.metrics_pb2 import DeploymentStats, WatchStatsResponse
from polyroute.api.router.v1.router_pb2 import (
    HEALTH_STATE_EJECTED,
    HEALTH_STATE_PROBED,
    HEALTH_STATE_RESTING,
    AttemptReport,
    DecideRequest,
    DecideResponse,
    DecisionRecord,
    HealthNote,
)
from polyroute.mesh.errors import MeshError
from polyroute.router.decide import Decided, decide
from polyroute.router.explaining import explain, rebuilt, replay
from polyroute.router.health.tracker import Health
from polyroute.router.snapshot import CatalogStore
from polyroute.router.steering import Steering
from tests.fakes.catalogs import NOW, ask, opened
from tests.unit.edge.peers import Clock
from tests.unit.router.live import spread, window

PAIR = """
models:
  m: {deployments: [{provider: p, model: a, region: cn-beijing}, {provider: q, model: b, region: eu}]}
"""
HEDGED = f"{PAIR}policies: {{default: {{hedge: true}}}}"


class House:
    """A router with its health."""

    def __init__(self, text: str = PAIR) -> None:
        self.clock = Clock()
        self.store: CatalogStore = opened(text)
        self.health = Health(clock=self.clock, seed=1)
        self.steering = Steering(self.store, self.health, wall=lambda: NOW + self.clock())
        self.kept: list[Decided] = []
        self.calls = 0
        self.steering.look()

    def push(self, **seconds: float) -> None:
        """Metrics says how long answers of `p__a` take."""
        self.steering.pushed(
            WatchStatsResponse(
                version=2,
                deployments=[
                    DeploymentStats(
                        deployment=name.replace("__", "/"),
                        one_minute=_taking(value),
                        five_minutes=_taking(value),
                        thirty_minutes=_taking(value),
                    )
                    for name, value in seconds.items()
                ],
            )
        )
        self.clock.advance(2)

    def fail(self, *deployments: str, times: int = 6) -> None:
        """So many calls of each fail in a row."""
        for number in range(times):
            for name in deployments:
                self.steering.report(
                    [
                        AttemptReport(
                            request_id=f"f-{name}-{number}",
                            attempt=1,
                            deployment=name,
                            fault=errors_pb2.FAULT_CONNECT,
                        )
                    ]
                )
        self.clock.advance(0.01)

    def succeed(self, deployment: str, request_id: str) -> None:
        """A call goes well."""
        self.health.begin(deployment, request_id)
        self.steering.report([AttemptReport(request_id=request_id, attempt=1, deployment=deployment)])

    def rest(self, deployment: str, fault: errors_pb2.Fault.ValueType, seconds: float) -> None:
        """A vendor refuses a call and says when to come back."""
        report = AttemptReport(request_id=f"w-{deployment}", attempt=1, deployment=deployment, fault=fault)
        report.retry_after_milliseconds = int(seconds * 1000)
        self.steering.report([report])

    def asked(self, **wishes: Any) -> DecideRequest:
        self.calls += 1
        request = ask("m", f"r-{self.calls}")
        request.explain = True
        for name, value in wishes.items():
            if name == "left":
                request.left.FromMilliseconds(int(value * 1000))
            elif isinstance(value, list):
                getattr(request, name).extend(value)
            else:
                setattr(request, name, value)
        return request

    def decide(self, **wishes: Any) -> DecideResponse:
        self.steering.look()
        return decide(self.asked(**wishes), self.store.view, NOW, self.kept.append, self.steering.steer)

    def order(self, **wishes: Any) -> list[str]:
        return [attempt.deployment for attempt in self.decide(**wishes).plan.attempts]

    def refusal(self, **wishes: Any) -> MeshError:
        with pytest.raises(MeshError) as caught:
            self.decide(**wishes)
        return caught.value


def _of(note: HealthNote) -> tuple[str, int, str, float]:
    return note.deployment, note.state, note.reason, note.number


def _full(decided: Decided) -> DecisionRecord:
    response = DecideResponse()
    response.CopyFrom(decided.response)
    explain(response, decided.request, decided.named, decided.slate)
    return response.record


def _taking(seconds: float) -> Any:
    made = window(latency=spread(seconds * 500))
    made.total_milliseconds.CopyFrom(spread(seconds * 1000))
    return made


class TestPolicyByName:
    TEXT = f"{PAIR}policies: {{inland: {{region: [cn]}}}}"

    def test_rules_the_call(self) -> None:
        """And the record says why."""
        decision = House(self.TEXT).decide(policy="inland")

        assert ["p/a"] == [attempt.deployment for attempt in decision.plan.attempts]
        assert ("inland", "named by the call or its key") == (decision.record.policy, decision.record.policy_reason)

    def test_that_is_none(self) -> None:
        """The right name is suggested."""
        error = House(self.TEXT).refusal(policy="inlnd")

        assert (REASON_INVALID_REQUEST, "policy") == (error.reason, error.metadata["param"])
        assert "did you mean 'inland'" in error.message


class TestRegionsOfAKey:
    def test_bind_whatever_the_caller_prefers(self) -> None:
        """A key for one region never leads to another one."""
        house = House()

        assert {"q/b"} == {name for _ in range(20) for name in house.order(permitted_regions=["eu"])}
        assert {"p/a", "q/b"} == {name for _ in range(20) for name in house.order()}

    def test_leave_nobody(self) -> None:
        """They are not lifted."""
        error = House().refusal(permitted_regions=["us"])

        assert REASON_NO_DEPLOYMENT == error.reason

    def test_replay(self) -> None:
        """The record holds them."""
        decision = House().decide(permitted_regions=["eu"])

        assert decision.plan == replay(decision.record).plan


class TestTime:
    def test_deployment_that_would_be_late_is_not_tried(self) -> None:
        """Where the caller set a deadline; otherwise all are."""
        house = House()
        house.push(p__a=20.0, q__b=1.0)
        decision = house.decide(left=5.0)

        assert ["q/b"] == [attempt.deployment for attempt in decision.plan.attempts]
        assert ["p/a"] == list(decision.record.late)
        assert {"p/a", "q/b"} == set(house.order())
        assert decision.plan == replay(decision.record).plan

    def test_quickest_is_tried_when_all_would_be_late(self) -> None:
        """A twentieth of its calls may be all that is late."""
        house = House()
        house.push(p__a=20.0, q__b=9.0)

        assert ["q/b"] == house.order(left=5.0)


class TestRefusal:
    def test_is_on_record(self) -> None:
        """A call that nobody was tried for is explained too."""
        house = House()
        house.fail("p/a", "q/b")
        with pytest.raises(MeshError) as caught:
            for _ in range(20):  # as many as the model's retries reach
                house.decide()
        record = house.kept[-1].response.record

        assert (REASON_UPSTREAM, caught.value.message) == (caught.value.reason, record.refusal)
        assert not house.kept[-1].response.plan.attempts

    def test_says_why_of_every_deployment(self) -> None:
        """To whoever asked, and in the record, with the number and the time; a replay shows the same."""
        house = House()
        house.fail("p/a", times=6)
        house.rest("q/b", errors_pb2.FAULT_RATE, seconds=60)
        with pytest.raises(MeshError) as caught:
            for _ in range(20):
                house.decide()
        record = house.kept[-1].response.record
        ejected, resting = sorted(record.health, key=lambda note: note.deployment)
        told = caught.value.message

        assert ("p/a", HEALTH_STATE_EJECTED, "failures in a row", 5) == _of(ejected)
        assert NOW + 20 < ejected.until.seconds < NOW + 40
        assert ("q/b", HEALTH_STATE_RESTING, "rate", 0) == _of(resting)
        assert NOW + 60 == pytest.approx(resting.until.ToMicroseconds() / 1e6, abs=0.1)
        assert told.startswith("every deployment of 'm' is out of order just now: ")
        assert "p/a is ejected: failures in a row (5), until 20" in told
        assert "q/b is resting: rate, until 20" in told
        assert list(record.health) == list(rebuilt(_full(house.kept[-1])).record.health)

    def test_one_keys_trouble_is_not_the_deployments(self) -> None:
        """While its account has another key that works, it does not rest."""
        house = House()
        report = AttemptReport(
            request_id="x", attempt=1, deployment="p/a", fault=errors_pb2.FAULT_RATE, retry_after_milliseconds=60_000
        )
        report.other_keys = True
        house.steering.report([report])
        house.clock.advance(2)
        with_others = {name for _ in range(20) for name in house.order()}
        report.other_keys = False
        house.steering.report([report])
        house.clock.advance(2)

        assert {"p/a", "q/b"} == with_others
        assert {"q/b"} == {name for _ in range(20) for name in house.order()}


class TestWhyHealthSteers:
    def test_obstacles_say_until_when(self) -> None:
        """Whoever is left out of every plan says so by its verdict, in words that stay the same while it lasts."""
        house = House()
        house.fail("p/a")
        first = house.decide()
        house.clock.advance(3)
        second = house.decide()
        words = [{one.deployment: one.obstacle for one in made.record.candidates}["p/a"] for made in (first, second)]

        assert not first.record.health
        assert words[0].startswith("ejected: failures in a row (5), until 20")
        assert words[0] == words[1]

    def test_one_that_is_tried_out(self) -> None:
        """The call that tries it says so; to the others it is told that somebody does, and until when."""
        house = House(PAIR.replace(", {provider: q, model: b, region: eu}", ""))
        house.fail("p/a")
        house.steering.look()
        house.clock.advance(40)
        probe, other = house.decide().record, house.decide().record

        assert ("p/a", []) == (probe.probe, list(probe.health))
        assert [("p/a", HEALTH_STATE_PROBED, "failures in a row", 5)] == [_of(note) for note in other.health]
        assert other.health[0].until.seconds > NOW


class TestLog:
    def test_every_turn_is_told_once(self) -> None:
        """Ejected, half open, back; and what begins to rest: constant events with fields."""
        house = House()
        with structlog.testing.capture_logs() as logs:
            house.fail("p/a", times=12)
            for _ in range(3):
                house.decide()
            house.clock.advance(40)
            house.steering.look()
            for number in range(3):
                house.succeed("p/a", f"ok-{number}")
            house.clock.advance(2)
            house.steering.look()
            house.rest("q/b", errors_pb2.FAULT_RATE, seconds=60)
            house.rest("q/b", errors_pb2.FAULT_RATE, seconds=60)
            house.steering.look()
        ejected, half, back, rests = logs

        assert ("deployment ejected", "warning", "p/a") == (
            ejected["event"],
            ejected["log_level"],
            ejected["deployment"],
        )
        assert ("failures in a row", 5) == (ejected["reason"], ejected["number"])
        assert 20 < ejected["seconds"] < 40
        assert {"event": "deployment half open", "log_level": "info", "deployment": "p/a"}.items() <= half.items()
        assert {"event": "deployment back", "log_level": "info", "deployment": "p/a"} == back
        assert {
            "event": "deployment rests",
            "log_level": "info",
            "deployment": "q/b",
            "reason": "rate",
            "seconds": 60.0,
        } == rests

    def test_a_refused_key_is_a_warning(self) -> None:
        """Somebody has to do something about it; it is one event, however many deployments use the key."""
        house = House()
        with structlog.testing.capture_logs() as logs:
            house.rest("q/b", errors_pb2.FAULT_CREDENTIAL, seconds=60)
            house.steering.look()

        assert [("provider rests", "warning", "q", "credential")] == [
            (one["event"], one["log_level"], one["provider"], one["reason"]) for one in logs
        ]


class TestMissingModel:
    def test_is_missing_for_what_was_asked(self) -> None:
        """What an edge reports of embeddings moves their order alone, and the record replays to it."""
        house = House()
        operation = house.asked().facts.operation
        report = AttemptReport(request_id="x", attempt=1, deployment="p/a", fault=errors_pb2.FAULT_MODEL_GONE)
        report.operation = OPERATION_EMBEDDING
        house.steering.report([report])
        others = {house.order()[0] for _ in range(20)}
        report.operation = operation
        house.steering.report([report])
        same = [house.decide() for _ in range(20)]

        assert {"p/a", "q/b"} == others
        assert {"q/b"} == {one.plan.attempts[0].deployment for one in same}
        assert all(one.plan == replay(one.record).plan for one in same)


class TestNobodyIsWell:
    def test_one_that_is_tried_out_is_not_all_there_is(self) -> None:
        """When the last good one fails too, a call that tries the other out has it to fall back on, as others have."""
        house = House()
        house.fail("p/a")
        alone = house.order()
        house.clock.advance(40)
        house.fail("q/b")

        assert ["q/b"] == alone
        assert [["p/a", "q/b"]] * 2 == [sorted(house.order()) for _ in range(2)]


class TestHedge:
    def test_off_without_a_policy(self) -> None:
        """Nothing is asked twice unless the operator says so."""
        house = House()
        house.push(p__a=2.0, q__b=2.0)
        for _ in range(200):
            assert not house.decide().plan.HasField("hedge_after")

    def test_after_what_nearly_all_calls_wait(self) -> None:
        """Once calls have paid for one; and the record replays to it."""
        house = House(HEDGED)
        house.decide()
        house.push(p__a=2.0, q__b=2.0)
        decisions = [house.decide() for _ in range(200)]
        hedged = [one for one in decisions if one.plan.HasField("hedge_after")]

        assert hedged
        assert 1.0 == pytest.approx(hedged[-1].plan.hedge_after.ToMicroseconds() / 1e6, rel=0.1)
        assert all(one.plan == replay(one.record).plan for one in (decisions[0], hedged[-1]))
