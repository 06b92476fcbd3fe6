"""What one router learns of limits and quotas, the others know; a server that is away costs nothing."""

import asyncio

import pytest

from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, OPERATION_EMBEDDING, Operation
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.router.health.outcomes import Outcome
from polyroute.router.health.rests import Resting
from polyroute.router.health.tracker import Health
from polyroute.router.health.unit import Member, Verdict
from polyroute.router.sharing import AWAY_SECONDS, RedisBoard, Sharing, connect
from tests.redis import RedisServer, redis_process, redis_server
from tests.unit.edge.peers import Clock

__all__ = ["redis_process", "redis_server"]

MEMBERS = [Member("p/a", "m", "p"), Member("p/b", "m", "p"), Member("q/c", "m", "q")]


def health(clock: Clock) -> Health:
    made = Health(clock=clock, seed=1)
    made.arrange(MEMBERS)
    return made


def resting(one: Health, operation: Operation.ValueType = OPERATION_CHAT) -> set[str]:
    state = one.state()
    names = [member.deployment for member in MEMBERS]
    return {name for name in names if state.of(name, operation).verdict is Verdict.COOLING}


class MemoryBoard:
    """A board that fails on request."""

    def __init__(self) -> None:
        self.written: list[Resting] = []
        self.failure: Exception | None = None
        self.asked = 0

    async def exchange(self, news: list[Resting]) -> list[Resting]:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        self.written += news
        return self.written


async def test_a_limit_met_by_one_router_rests_for_all() -> None:
    """The deployment alone; a quota that is spent is the whole provider's."""
    clock, board = Clock(), MemoryBoard()
    here, there = health(clock), health(clock)
    here.end("q/c", "r-1", Outcome(fault=pb.FAULT_RATE, retry_after=30.0))
    here.end("p/a", "r-2", Outcome(fault=pb.FAULT_QUOTA, retry_after=60.0))
    before = resting(there)
    await Sharing(here, board, clock).look()
    await Sharing(there, board, clock).look()

    assert (set(), {"p/a", "p/b", "q/c"}) == (before, resting(there))
    assert [] == there.take_rests()  # what was heard is not told on


async def test_missing_model_rests_for_what_was_asked() -> None:
    """At every router; conversations go on at all of them."""
    clock, board = Clock(), MemoryBoard()
    here, there = health(clock), health(clock)
    here.end("q/c", "r-1", Outcome(fault=pb.FAULT_MODEL_GONE, operation=OPERATION_EMBEDDING))
    await Sharing(here, board, clock).look()
    await Sharing(there, board, clock).look()

    assert [{"q/c"}, set()] == [resting(there, one) for one in (OPERATION_EMBEDDING, OPERATION_CHAT)]


async def test_board_that_is_away_is_asked_again_later() -> None:
    """And what happens meanwhile is known here all the same."""
    clock, board = Clock(), MemoryBoard()
    here = health(clock)
    sharing = Sharing(here, board, clock)
    board.failure = OSError("gone")
    for _ in range(3):
        await sharing.look()
    asked = board.asked
    here.end("q/c", "r-1", Outcome(fault=pb.FAULT_RATE, retry_after=30.0))
    clock.advance(AWAY_SECONDS + 1)
    board.failure = None
    await sharing.look()

    assert (1, ["q/c"]) == (asked, [one.name for one in board.written])


@pytest.mark.parametrize("told", [Resting("p/a", False, pb.FAULT_SERVER, 9.0), Resting("x/y", False, pb.FAULT_RATE, 9)])
def test_what_says_nothing_of_ours_changes_nothing(told: Resting) -> None:
    """A fault that waiting does not mend, and a deployment that is not in the catalog."""
    clock = Clock()
    here = health(clock)
    here.rest(told)

    assert set() == resting(here)


async def test_over_a_real_server(redis_server: RedisServer) -> None:
    """Two routers by two connections; what is over is forgotten; a killed server raises what `Sharing` expects."""
    one, two = connect(redis_server.url), connect(redis_server.url)
    try:
        await RedisBoard(one).exchange(
            [Resting("p/a", False, pb.FAULT_RATE, 30.0), Resting("p", True, pb.FAULT_QUOTA, 0.1)]
        )
        await RedisBoard(one).exchange([Resting("p/a", False, pb.FAULT_RATE, 10.0)])  # the longer one stays
        await RedisBoard(one).exchange([Resting("p/a", False, pb.FAULT_MODEL_GONE, 60.0, OPERATION_EMBEDDING)])
        await asyncio.sleep(0.15)
        found, gone = await RedisBoard(two).exchange([])

        assert ("p/a", False, pb.FAULT_RATE) == found[:3]
        assert 29 < found.seconds <= 30
        assert ("p/a", pb.FAULT_MODEL_GONE, OPERATION_EMBEDDING) == (gone.name, gone.fault, gone.operation)
    finally:
        await one.aclose()
        await two.aclose()
