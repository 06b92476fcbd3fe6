"""What an edge has seen of vendors reaches the router, with a question or without one."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.metrics.v1.metrics_pb2 import AttemptRecord
from polyroute.api.router.v1.router_pb2 import Attempt, DecideRequest, DecideResponse, Plan
from polyroute.edge import sightings
from polyroute.edge.sightings import MOST, Sightings
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError
from tests.unit.edge.peers import FakeRouter

WAITS = 0.02


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for half a second."""
    monkeypatch.setattr(sightings, "WAITS", WAITS)


def router() -> FakeRouter:
    return FakeRouter("a/x")  # type: ignore[abstract] # has what the edge calls


@asynccontextmanager
async def running(seen: Sightings) -> AsyncGenerator[None]:
    task = asyncio.create_task(seen.run())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def until(found: list[object], count: int) -> None:
    async with asyncio.timeout(5):
        while len(found) < count:
            await asyncio.sleep(WAITS / 4)


def ended(name: str) -> Trail:
    trail = Trail(name)
    trail.attempts.append(AttemptRecord(deployment="a/x"))
    return trail


async def test_is_said_where_no_question_comes() -> None:
    """Once, both kinds, and nothing when there is nothing."""
    peer = router()
    seen = Sightings(peer.stub(), 1)
    async with running(seen):
        seen.answering(Trail("r-1"))
        seen.ended(ended("r-2"))
        await until(peer.reports, 1)  # type: ignore[arg-type] # of messages
        await asyncio.sleep(5 * WAITS)
    told = [
        ([one.request_id for one in request.answering], [one.request_id for one in request.reports])
        for request in peer.reports
    ]

    assert [(["r-1"], ["r-2"])] == told


async def test_a_call_that_never_began_is_said() -> None:
    """Refused after its plan was made: the router need not wait for what becomes of it."""
    peer = router()
    seen = Sightings(peer.stub(), 1)
    refused = Trail("r-1")
    refused.decision = DecideResponse(plan=Plan(attempts=[Attempt(deployment="a/x"), Attempt(deployment="b/x")]))
    async with running(seen):
        seen.ended(refused)
        seen.ended(Trail("r-2"))  # refused before: nobody was asked
        await until(peer.reports, 1)  # type: ignore[arg-type] # of messages
    told = [(one.request_id, one.attempt, one.deployment, one.cancelled) for one in peer.reports[0].reports]

    assert [("r-1", 1, "a/x", True)] == told


async def test_questions_take_it_along() -> None:
    """Where they come often enough, nothing else is sent."""
    peer = router()
    seen = Sightings(peer.stub(), 1)
    told = []
    async with running(seen):
        for number in range(20):
            seen.ended(ended(f"r-{number}"))
            question = DecideRequest()
            seen.tell(question)
            told += [one.request_id for one in question.reports]
            await asyncio.sleep(WAITS / 4)

    assert [f"r-{number}" for number in range(20)] == told
    assert [] == peer.reports


async def test_a_router_that_is_away_hears_it_later() -> None:
    """What it did not hear is said again, before what came since."""
    peer = router()
    peer.failure = MeshError(pb.REASON_SERVICE_UNAVAILABLE, "nobody is there")
    seen = Sightings(peer.stub(), 1)
    async with running(seen):
        seen.ended(ended("r-1"))
        await until(peer.reports, 2)  # type: ignore[arg-type] # of messages
        seen.ended(ended("r-2"))
        peer.failure = None
        before = len(peer.reports)
        await until(peer.reports, before + 1)  # type: ignore[arg-type] # of messages

    assert ["r-1", "r-2"] == [one.request_id for one in peer.reports[-1].reports]


@pytest.mark.parametrize(("since", "kept"), [(0, 3), (MOST - 2, 2), (MOST, 0)])
async def test_of_too_much_the_newest_is_kept(since: int, kept: int) -> None:
    """A router that is away for long does not fill the memory."""
    seen = Sightings(router().stub(), 1)
    for number in range(3):
        seen.ended(ended(f"old-{number}"))
    unheard = DecideRequest()
    seen.tell(unheard)
    for number in range(since):
        seen.ended(ended(f"new-{number}"))
    seen.take_back(unheard)
    again = DecideRequest()
    seen.tell(again)
    names = [one.request_id for one in again.reports]

    assert [f"old-{number}" for number in range(3)][3 - kept :] == names[:kept]
    assert since == len(names) - kept
    assert (f"new-{since - 1}" if since else "old-2") == names[-1]
