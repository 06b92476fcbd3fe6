"""The record of every call, also while the disk does not take it."""

import asyncio

import pytest

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.metrics.v1.metrics_pb2 import AppendRequest, AppendResponse, CallRecord
from polyroute.edge import recorder as module
from polyroute.edge.recorder import SEND_SECONDS, Recorder
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError
from tests.unit.edge.peers import CALLER, MemorySpool

FULL = MeshError(pb.REASON_USAGE_UNAVAILABLE, "the spool is full")


class Metrics:
    """Takes batches."""

    def __init__(self) -> None:
        self.taken: list[tuple[list[str], float]] = []

    async def Append(self, request: AppendRequest, *, timeout: float) -> AppendResponse:  # noqa: ASYNC109 - as stubs have it
        self.taken.append(([record.request_id for record in request.records], timeout))
        return AppendResponse()


@pytest.fixture
def spool() -> MemorySpool:
    return MemorySpool()


@pytest.fixture
def recorder(spool: MemorySpool) -> Recorder:
    return Recorder(spool, Metrics())  # type: ignore[arg-type] # what of a spool is used


def over(request_id: str, *, known: bool = True) -> Trail:
    trail = Trail(request_id)
    trail.caller = CALLER if known else None
    trail.ended(MeshError(pb.REASON_DEADLINE, "late"))
    return trail


def ids(spool: MemorySpool) -> list[str]:
    return [record.request_id for record in spool.records]


def test_record_is_kept_once(recorder: Recorder, spool: MemorySpool) -> None:
    """However often the end of a call is noticed."""
    trail = over("r-1")
    recorder.keep(trail)
    recorder.keep(trail)

    assert ["r-1"] == ids(spool)


def test_strangers_are_not_recorded(recorder: Recorder, spool: MemorySpool) -> None:
    """Anybody can make such calls, in any number: they must not fill the disk."""
    recorder.keep(over("r-1", known=False))

    assert [] == ids(spool)


def test_no_new_work_while_a_record_waits(recorder: Recorder, spool: MemorySpool) -> None:
    """The record stays in memory; calls are refused until it is written."""
    recorder.check()
    spool.failure = FULL
    recorder.keep(over("r-1"))
    with pytest.raises(MeshError) as caught:
        recorder.check()
    spool.failure = None
    recorder.check()

    assert pb.REASON_USAGE_UNAVAILABLE == caught.value.reason
    assert ["r-1"] == ids(spool)


def test_a_record_that_waits_is_not_on_the_disk(recorder: Recorder, spool: MemorySpool) -> None:
    """What stands for its attempts until then must not be left before."""
    trail = over("r-1")
    spool.failure = FULL
    recorder.keep(trail)
    recorder.keep(trail)
    before = trail.recorded
    spool.failure = None
    recorder.check()

    assert (False, True, ["r-1"]) == (before, trail.recorded, ids(spool))


def test_records_that_waited_come_first(recorder: Recorder, spool: MemorySpool) -> None:
    """Calls that were going on when the disk failed lose nothing, not even their order."""
    spool.failure = FULL
    for request_id in ("r-1", "r-2"):
        recorder.keep(over(request_id))
    spool.failure = None
    recorder.keep(over("r-3"))

    assert ["r-1", "r-2", "r-3"] == ids(spool)


def test_no_new_work_on_a_disk_that_is_nearly_full(recorder: Recorder, spool: MemorySpool) -> None:
    """The last of it is for the records of calls that are going on, which were let in before."""
    spool.nearly_full = True
    with pytest.raises(MeshError) as caught:
        recorder.check()
    recorder.keep(over("r-1"))

    assert pb.REASON_USAGE_UNAVAILABLE == caught.value.reason
    assert ["r-1"] == ids(spool)


async def test_what_waits_is_written_without_another_call(
    recorder: Recorder, spool: MemorySpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as the disk takes it, or at the latest when the process ends."""
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.001)
    spool.failure = FULL
    recorder.keep(over("r-1"))
    running = asyncio.create_task(recorder.run())
    await asyncio.sleep(0.01)
    before = ids(spool)
    spool.failure = None
    await asyncio.sleep(0.01)
    meanwhile = ids(spool)
    monkeypatch.setattr(module, "WRITE_SECONDS", 1000)
    await asyncio.sleep(0.01)
    spool.failure = FULL
    recorder.keep(over("r-2"))
    spool.failure = None
    running.cancel()
    await asyncio.wait([running])

    assert ([], ["r-1"], ["r-1", "r-2"]) == (before, meanwhile, ids(spool))


async def test_batch_is_sent_within_a_bound() -> None:
    """As records, not bytes, and never waiting for ever."""
    metrics = Metrics()
    recorder = Recorder(MemorySpool(), metrics)  # type: ignore[arg-type] # what of a spool is used
    await recorder.send([CallRecord(request_id=name).SerializeToString() for name in ("r-1", "r-2")])

    assert [(["r-1", "r-2"], SEND_SECONDS)] == metrics.taken
