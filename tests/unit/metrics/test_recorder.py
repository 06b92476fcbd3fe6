"""Taking records in: one transaction for many senders, and each record once into the figures."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest

from polyroute.api.errors.v1 import errors_pb2 as errors
from polyroute.mesh.background import Background
from polyroute.mesh.errors import MeshError
from polyroute.metrics.exposition import Exposition
from polyroute.metrics.livestats import LiveStats
from polyroute.metrics.recorder import GROUP, Recorder
from polyroute.metrics.rows import Row
from tests.unit.metrics.records import NOON, attempt, call

NEWS = "polyroute_requests_total{"


class Shelf:
    """A store in memory that can be held up and made to fail."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.kept: set[str] = set()
        self.errors: list[Exception] = []
        self.open = asyncio.Event()
        self.open.set()

    async def insert(self, rows: Sequence[Row]) -> list[str]:
        await self.open.wait()
        if self.errors:
            raise self.errors.pop(0)
        names = [row.request_id for row in rows]
        self.groups.append(names)
        new = list(dict.fromkeys(name for name in names if name not in self.kept))
        self.kept.update(new)
        return new


class Bench:
    """A recorder and all that it feeds."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.stats = LiveStats(clock=lambda: 5000.0)
        self.exposition = Exposition()
        self.recorder = Recorder(self.shelf.insert, self.stats, self.exposition, clock=lambda: NOON + 100.0)

    def counted(self) -> int:
        lines = self.exposition.text().decode().splitlines()
        return sum(int(line.rpartition(" ")[2]) for line in lines if line.startswith(NEWS))

    def attempts(self, deployment: str = "north") -> list[int]:
        self.stats.refresh()
        return [window.attempts for window in dict(self.stats.figures())[deployment]]


@pytest.fixture
async def bench() -> AsyncGenerator[Bench]:
    made = Bench()
    async with Background() as loops:
        loops.start("record", made.recorder.run)
        yield made


async def test_says_how_many_were_new(bench: Bench) -> None:
    """Repeating a record stores nothing and counts nothing, also within one batch."""
    first = await bench.recorder.append([call("a"), call("b"), call("a")])
    second = await bench.recorder.append([call("b"), call("c")])

    assert (2, 1) == (first, second)
    assert 3 == bench.counted()
    assert 3 == bench.attempts()[2]


async def test_batches_share_a_transaction(bench: Bench) -> None:
    """What arrives while one transaction is written goes into the next, each sender with its own answer."""
    bench.shelf.open.clear()
    waiting = [asyncio.create_task(bench.recorder.append([call("a")]))]
    await asyncio.sleep(0.001)
    waiting += [asyncio.create_task(bench.recorder.append([call(name), call("a")])) for name in "bcd"]
    await asyncio.sleep(0.001)
    bench.shelf.open.set()

    assert [1, 1, 1, 1] == await asyncio.gather(*waiting)
    assert [["a"], ["b", "a", "c", "a", "d", "a"]] == bench.shelf.groups


async def test_groups_are_bounded(bench: Bench) -> None:
    """A transaction takes whole batches up to its bound."""
    bench.shelf.open.clear()
    half = [call(str(number)) for number in range(GROUP // 2)]
    waiting = [asyncio.create_task(bench.recorder.append(half)) for _ in range(3)]
    await asyncio.sleep(0)
    bench.shelf.open.set()
    await asyncio.gather(*waiting)

    assert [GROUP, GROUP // 2] == [len(group) for group in bench.shelf.groups]


async def test_a_failed_transaction_is_everybodys(bench: Bench) -> None:
    """All senders of a group learn that it failed, nothing is counted, and the next one works."""
    bench.shelf.errors = [MeshError(errors.REASON_USAGE_UNAVAILABLE, "no")]
    waiting = [asyncio.create_task(bench.recorder.append([call(name)])) for name in "ab"]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    again = await bench.recorder.append([call("a")])

    assert [errors.REASON_USAGE_UNAVAILABLE] * 2 == [getattr(outcome, "reason", None) for outcome in outcomes]
    assert (1, 1) == (again, bench.counted())


async def test_a_bug_leaves_nobody_waiting() -> None:
    """An exception nobody foresaw reaches the senders and the supervisor."""
    bench = Bench()
    bench.shelf.errors = [RuntimeError("bug")]
    running = asyncio.create_task(bench.recorder.run())

    with pytest.raises(RuntimeError, match="bug"):
        await bench.recorder.append([call("a")])
    with pytest.raises(RuntimeError, match="bug"):
        await running


async def test_a_sender_that_leaves(bench: Bench) -> None:
    """Its records are stored and counted all the same, and the others get their answers."""
    bench.shelf.open.clear()
    leaving = asyncio.create_task(bench.recorder.append([call("a")]))
    staying = asyncio.create_task(bench.recorder.append([call("b")]))
    await asyncio.sleep(0.001)
    leaving.cancel()
    bench.shelf.open.set()

    assert 1 == await staying
    assert {"a", "b"} == bench.shelf.kept
    assert 2 == bench.counted()


async def test_attempts_count_when_they_ended(bench: Bench) -> None:
    """A record that comes late lands in the windows where its attempts ended; one from the future ended now."""
    await bench.recorder.append(
        [
            call("now", attempts=[attempt(at=NOON + 97)]),
            call("late", attempts=[attempt(at=NOON - 60)]),
            call("later", attempts=[attempt(at=NOON - 600)]),
            call("ahead", attempts=[attempt(at=NOON + 5000)]),
            call("forgotten", attempts=[attempt(at=NOON - 9000)]),
        ]
    )

    assert [2, 3, 4] == bench.attempts()


@pytest.mark.parametrize("wrong", [-7200, -70, 0, 70, 7200])
async def test_a_clock_that_goes_wrong(bench: Bench, wrong: int) -> None:
    """How old a record is, its sender's clock says alone: windows stay right, whatever time it believes it is."""
    sent = NOON + 100 + wrong
    records = [call("new", attempts=[attempt(at=sent - 3)]), call("old", attempts=[attempt(at=sent - 200)])]
    await bench.recorder.append(records, sent)

    assert [1, 2, 2] == bench.attempts()


async def test_attempts_without_a_time(bench: Bench) -> None:
    """They ended when their call did."""
    timeless = attempt()
    timeless.ClearField("start_time")
    await bench.recorder.append([call(at=NOON - 60, attempts=[timeless])])

    assert [0, 1, 1] == bench.attempts()


async def test_each_attempt_is_its_deployments(bench: Bench) -> None:
    """A call that moved on counts for both deployments; one that was refused counts for none."""
    failed = attempt("south", fault=errors.FAULT_SERVER)
    await bench.recorder.append([call("a", attempts=[failed, attempt("north")]), call("b", attempts=[])])

    assert 1 == bench.attempts("south")[2]
    assert 1 == bench.attempts("north")[2]
