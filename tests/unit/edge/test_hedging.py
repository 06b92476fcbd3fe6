"""Two attempts at once: when the second begins, who answers, and what is on record of the other one."""

import asyncio
from contextlib import aclosing

import pytest

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.edge import failover
from polyroute.mesh.errors import MeshError
from tests.unit.edge.peers import House, Step, Wait, finished, said, started

DOWN = MeshError.upstream(pb.FAULT_SERVER, "the vendor failed", upstream_status="503")
DELAY_MS = 20
ANSWER: tuple[Step, ...] = (started(), said(b"one "), finished(b"two"))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoff of a tick."""
    monkeypatch.setattr(failover, "FIRST_BACKOFF", 0.0)


def hedged(*scripts: tuple[Step, ...]) -> House:
    house = House(scripts)
    house.router.plan.hedge_after.FromMilliseconds(DELAY_MS)
    return house


def outcomes(house: House) -> list[tuple[str, bool, bool]]:
    """Each attempt's deployment, whether it was given up, whether it was begun beside another."""
    return [(one.deployment, one.cancelled, one.hedged) for one in house.record.attempts]


class TestFirst:
    async def test_answers_in_time(self) -> None:
        """Nobody else is asked."""
        house = hedged(ANSWER)

        assert b"one two" == await house.answer()
        assert [("a/x", False, False)] == outcomes(house)

    async def test_that_fails_in_time_is_followed_and_not_joined(self) -> None:
        """Failover needs no second attempt at once."""
        house = hedged((DOWN,), ANSWER)

        assert b"one two" == await house.answer()
        assert [(1, "a/x"), (2, "b/y")] == house.tried
        assert [pb.FAULT_SERVER, 0] == house.faults

    async def test_answers_after_all(self) -> None:
        """The second one is given up; its vendor stops; it is on record."""
        gate = Wait()
        house = hedged((started(), gate, said(b"late "), finished(b"first")), (started(), Wait()))
        answer = asyncio.create_task(house.answer())
        while len(house.tried) < 2:
            await asyncio.sleep(0.001)
        gate.set()

        assert b"late first" == await answer
        assert [("a/x", False, False), ("b/y", True, True)] == outcomes(house)
        assert (0, "a/x") == (house.providers.open, house.record.deployment)


class TestSecond:
    async def test_answers_first(self) -> None:
        """The caller reads one whole answer; the late one is given up."""
        house = hedged((started(), Wait()), ANSWER)

        assert b"one two" == await house.answer()
        assert [("a/x", True, False), ("b/y", False, True)] == outcomes(house)
        assert (0, "b/y", metrics_pb2.OUTCOME_COMPLETED) == (
            house.providers.open,
            house.record.deployment,
            house.record.outcome,
        )

    async def test_fails_while_the_first_goes_on(self) -> None:
        """Its failure is on record, and the first one's answer is the call's."""
        gate = Wait()
        house = hedged((started(), gate, *ANSWER[1:]), (DOWN,))
        answer = asyncio.create_task(house.answer())
        while len(house.tried) < 2:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        gate.set()

        assert b"one two" == await answer
        assert [0, pb.FAULT_SERVER] == house.faults

    async def test_is_cheaper_than_waiting_only_where_two_are_planned(self) -> None:
        """One deployment alone is not asked twice."""
        house = hedged((started(), said(b"x"), finished()))
        del house.router.plan.attempts[1:]
        house.router.plan.ClearField("hedge_after")

        assert b"x" == await house.answer()


class TestBoth:
    async def test_fail(self) -> None:
        """A third deployment is tried, with its own number."""
        gate = Wait()
        house = hedged((started(), gate, DOWN), (started(), gate, DOWN), ANSWER)
        answer = asyncio.create_task(house.answer())
        while len(house.tried) < 2:
            await asyncio.sleep(0.001)
        gate.set()

        assert b"one two" == await answer
        assert [(1, "a/x"), (2, "b/y"), (3, "c/z")] == house.tried
        assert [pb.FAULT_SERVER, pb.FAULT_SERVER, 0] == house.faults

    async def test_end_when_the_caller_goes_away(self) -> None:
        """No vendor works on, and both are on record."""
        house = hedged((started(), Wait()), (started(), Wait()))

        async def ask() -> None:
            async with aclosing(house.generate()) as responses:
                async for _ in responses:
                    pass

        asking = asyncio.create_task(ask())
        while len(house.tried) < 2:
            await asyncio.sleep(0.001)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

        assert (0, metrics_pb2.OUTCOME_CANCELLED) == (house.providers.open, house.record.outcome)
        assert [("a/x", True, False), ("b/y", True, True)] == outcomes(house)

    async def test_reports_name_the_one_that_was_begun_beside(self) -> None:
        """The router counts it as a hedge, and not as a retry."""
        house = hedged((started(), Wait()), ANSWER, ANSWER)
        await house.answer()
        house.router.plan.ClearField("hedge_after")
        house.providers.scripts.extend([ANSWER])
        await house.answer()
        reports = house.router.requests[1].reports

        assert [(1, "a/x", True, False), (2, "b/y", False, True)] == [
            (one.attempt, one.deployment, one.cancelled, one.hedged) for one in reports
        ]
