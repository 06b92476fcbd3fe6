"""Where the router is asked, and where a call goes when no router answers."""

import asyncio

import pytest

from polyroute.api.chat.v1.chat_pb2 import (
    CAPABILITY_VISION,
    OPERATION_CHAT,
    OPERATION_COUNT_TOKENS,
    OPERATION_EMBEDDING,
    RequestFacts,
)
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.metrics.v1.metrics_pb2 import AttemptRecord
from polyroute.api.router.v1.router_pb2 import DecideRequest, DecideResponse, Preferences
from polyroute.edge import deciding
from polyroute.edge.call import Call
from polyroute.edge.deciding import Decider
from polyroute.edge.plans import LASTS, MOST, Plans, kind_of
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError
from tests.unit.edge.peers import BODY, CALLER, KEY, Clock, Context, FakeRouter

AWAY = MeshError(pb.REASON_SERVICE_UNAVAILABLE, "nobody is there")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The decider's clock."""
    clock = Clock()
    monkeypatch.setattr(deciding, "monotonic", clock)
    return clock


def call(model: str = "m", **facts: object) -> Call:
    trail = Trail("r-1")
    trail.caller = CALLER
    asks = RequestFacts(operation=OPERATION_CHAT, model=model, **facts)  # type: ignore[arg-type] # fields of it
    return Call(KEY, asks, BODY, asyncio.get_running_loop().time() + 60, trail)


def decider(router: FakeRouter) -> Decider:
    return Decider(router.stub(), 5.0)


class TestRouterAway:
    async def test_goes_as_its_like_went(self, clock: Clock) -> None:
        """With the plan that was made then, and a record that says so."""
        router = FakeRouter("a/x", "b/y")  # type: ignore[abstract] # has what the edge calls
        asks = decider(router)
        before = await asks.decide(call())
        clock.advance(7)
        router.failure = AWAY

        decision = await asks.decide(call())

        assert before.plan == decision.plan
        assert "the router is away: as it decided 7 s ago" == decision.record.policy_reason

    async def test_asks_one_call_a_second_only(self, clock: Clock) -> None:
        """A router that is away costs the others no wait; one that is back is heard within a second."""
        router = FakeRouter("a/x")  # type: ignore[abstract] # has what the edge calls
        asks = decider(router)
        await asks.decide(call())
        router.failure = AWAY
        for _ in range(10):
            await asks.decide(call())
        asked = len(router.requests)
        router.failure = None
        clock.advance(deciding.ASK_AGAIN + 0.1)

        decision = await asks.decide(call())

        assert (2, "") == (asked, decision.record.policy_reason)

    @pytest.mark.parametrize(
        "other", [{"model": "n"}, {"needs": [CAPABILITY_VISION]}, {"operation": 3}], ids=["model", "needs", "operation"]
    )
    async def test_nothing_is_guessed_for_calls_of_another_kind(self, clock: Clock, other: dict[str, object]) -> None:
        """A deployment that served one model need not serve another, nor see pictures."""
        router = FakeRouter("a/x")  # type: ignore[abstract] # has what the edge calls
        asks = decider(router)
        await asks.decide(call())
        router.failure = AWAY
        different = call()
        for name, value in other.items():
            if name == "needs":
                different.facts.needs.extend(value)  # type: ignore[arg-type] # capabilities
            else:
                setattr(different.facts, name, value)

        with pytest.raises(MeshError) as caught:
            await asks.decide(different)

        assert pb.REASON_SERVICE_UNAVAILABLE == caught.value.reason

    async def test_a_refusal_is_the_routers_word(self, clock: Clock) -> None:
        """Only who does not answer is away."""
        router = FakeRouter("a/x")  # type: ignore[abstract] # has what the edge calls
        asks = decider(router)
        await asks.decide(call())
        router.failure = MeshError(pb.REASON_NOT_PERMITTED, "no")

        with pytest.raises(MeshError) as caught:
            await asks.decide(call())

        assert pb.REASON_NOT_PERMITTED == caught.value.reason

    async def test_plan_of_yesterday_is_none(self, clock: Clock) -> None:
        """It would lead to deployments that may be gone."""
        router = FakeRouter("a/x")  # type: ignore[abstract] # has what the edge calls
        asks = decider(router)
        await asks.decide(call())
        router.failure = AWAY
        clock.advance(LASTS + 1)

        with pytest.raises(MeshError):
            await asks.decide(call())


class Overloaded(FakeRouter):
    """Answers the first question; the time of the others is over when that was done."""

    async def Decide(self, request: DecideRequest, context: Context) -> DecideResponse:
        first = not self.requests
        decision = await super().Decide(request, context)
        if first:
            return decision
        await asyncio.sleep(0.01)
        raise MeshError(pb.REASON_DEADLINE, "the time is over")


async def test_router_that_is_slow(clock: Clock) -> None:
    """Counts as one that is away: calls go as their like went, also those that had been asked about before any had."""
    asks = decider(Overloaded("a/x"))  # type: ignore[abstract] # has what the edge calls
    decisions = await asyncio.gather(*(asks.decide(call()) for _ in range(5)))
    later = await asks.decide(call())

    assert ["a/x"] * 6 == [one.plan.attempts[0].deployment for one in (*decisions, later)]
    assert "" == decisions[0].record.policy_reason
    assert all("the router is away" in one.record.policy_reason for one in (*decisions[1:], later))


def test_plans_are_bounded() -> None:
    """Names that callers make up are without number."""
    plans = Plans()
    for number in range(MOST + 10):
        plans.keep((number,), DecideResponse(), 0.0)

    assert (False, True) == (plans.has((9,)), plans.has((10,)))


def test_kinds_differ_by_wishes_and_permissions() -> None:
    """What one caller may or wants is not what another one does."""
    facts = RequestFacts(model="m", operation=OPERATION_CHAT)
    kinds = {
        kind_of(DecideRequest(facts=facts)),
        kind_of(DecideRequest(facts=facts, preferences=Preferences(only=["a"]))),
        kind_of(DecideRequest(facts=facts, permitted_models=["m"])),
        kind_of(DecideRequest(facts=facts, plan_models=["m"])),
        kind_of(DecideRequest(facts=facts, caller=CALLER)),
        kind_of(DecideRequest(facts=facts, dialect="openai.chat")),
    }

    assert 6 == len(kinds)


async def test_router_that_has_nobody_is_not_away(clock: Clock) -> None:
    """What it says now counts, and not what it said before: also that all deployments are out of order."""
    router = FakeRouter("a/x")  # type: ignore[abstract] # has what the edge calls
    asks = decider(router)
    await asks.decide(call())
    said = (
        MeshError(pb.REASON_SERVICE_UNAVAILABLE, "the model is loading", metadata={"model": "m"}, retry_after=2.0),
        MeshError.upstream(pb.FAULT_SERVER, "every deployment is out of order", retry_after=1.0, cause="health"),
    )
    for failure in said:
        router.failure = failure
        with pytest.raises(MeshError) as caught:
            await asks.decide(call())

        assert failure.message == caught.value.message


async def test_what_was_seen_of_vendors_waits_for_the_router(clock: Clock) -> None:
    """Reports that nobody heard go with the first question that is answered, in their order."""
    router = FakeRouter("a/x")  # type: ignore[abstract] # has what the edge calls
    asks = decider(router)
    await asks.decide(call())
    router.failure = AWAY
    for name in ("a/x", "b/y"):
        seen = Trail(name)
        seen.attempts.append(AttemptRecord(deployment=name))
        asks.sightings.ended(seen)
        await asks.decide(call())
        clock.advance(deciding.ASK_AGAIN + 0.1)
    router.failure = None
    await asks.decide(call())

    assert ["a/x", "b/y"] == [one.deployment for one in router.requests[-1].reports]


async def test_what_is_seen_while_nobody_is_asked_waits_too(clock: Clock) -> None:
    """Calls that go by a remembered plan, between two questions whether the router is back, take nothing with them."""
    router = FakeRouter("a/x")  # type: ignore[abstract] # has what the edge calls
    asks = decider(router)
    await asks.decide(call())
    router.failure = AWAY
    await asks.decide(call())
    seen = Trail("r-1")
    seen.attempts.append(AttemptRecord(deployment="a/x"))
    asks.sightings.answering(Trail("r-2"))
    asks.sightings.ended(seen)
    asked = len(router.requests)
    await asks.decide(call())
    unasked = len(router.requests) == asked
    clock.advance(deciding.ASK_AGAIN + 0.1)
    await asks.decide(call())
    clock.advance(deciding.ASK_AGAIN + 0.1)
    router.failure = None
    await asks.decide(call())
    told = router.requests[-1]

    assert unasked
    assert (["r-1"], ["r-2"]) == (
        [one.request_id for one in told.reports],
        [one.request_id for one in told.answering],
    )


async def test_reports_say_what_was_asked_for() -> None:
    """Counting tokens too, which goes where conversations go: a vendor that cannot count goes on with those."""
    router = FakeRouter("a/x")  # type: ignore[abstract] # has what the edge calls
    asks = decider(router)
    for operation in (OPERATION_EMBEDDING, OPERATION_COUNT_TOKENS):
        seen = Trail("r-1")
        seen.facts = RequestFacts(operation=operation, model="m")
        seen.attempts.append(AttemptRecord(deployment="a/x", fault=pb.FAULT_MODEL_GONE))
        asks.sightings.ended(seen)
    await asks.decide(call())

    assert [OPERATION_EMBEDDING, OPERATION_COUNT_TOKENS] == [one.operation for one in router.requests[-1].reports]


async def test_the_router_hears_which_attempts_have_content() -> None:
    """With the next question, once: a stream that lasts is no vendor that hangs."""
    router = FakeRouter("a/x")  # type: ignore[abstract] # has what the edge calls
    asks = decider(router)
    seen = Trail("r-1")
    seen.attempts.append(AttemptRecord(deployment="a/x", fault=pb.FAULT_SERVER))
    asks.sightings.answering(seen)
    await asks.decide(call())
    await asks.decide(call())
    told = [[(one.request_id, one.attempt) for one in request.answering] for request in router.requests]

    assert [[("r-1", 2)], []] == told
