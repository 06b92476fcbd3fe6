"""What empties a spool: a receiver that is away, that finds fault with records, and one that never answers."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.mesh.frames import scan
from polyroute.mesh.shipper import Shipper
from polyroute.mesh.spool import BATCH, Spool


def filled(path: Path, payloads: list[bytes]) -> Spool:
    spool = Spool(path)
    spool.extend(payloads)
    return spool


def numbered(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


class Receiver:
    """Takes batches; fails with what `errors` holds, first in first out, and refuses what `accepts` does not like."""

    def __init__(self, *errors: Exception, accepts: Callable[[bytes], bool] = lambda _: True) -> None:
        self.errors = list(errors)
        self.accepts = accepts
        self.batches: list[list[bytes]] = []

    async def send(self, batch: list[bytes]) -> None:
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        if not all(map(self.accepts, batch)):
            raise MeshError(pb.REASON_INVALID_REQUEST, "malformed")
        self.batches.append(batch)

    @property
    def records(self) -> list[bytes]:
        return [record for batch in self.batches for record in batch]


def shipper(spool: Spool, receiver: Receiver) -> Shipper:
    return Shipper(spool, receiver.send, every=0, sync_every=60, drain=5, first_wait=0, longest_wait=0)


async def test_batches_in_order(tmp_path: Path) -> None:
    """Everything arrives in order, no batch is larger than agreed, and nothing is left."""
    spool, receiver = filled(tmp_path, numbered(1200)), Receiver()
    async with shipper(spool, receiver):
        spool.append(b"last")

    assert [*numbered(1200), b"last"] == receiver.records
    assert max(map(len, receiver.batches)) <= BATCH
    assert 0 == spool.pending
    spool.close()


async def test_receiver_comes_back(tmp_path: Path) -> None:
    """While the receiver fails, in whatever way, the same records go again."""
    away = MeshError(pb.REASON_SERVICE_UNAVAILABLE, "away")
    spool, receiver = filled(tmp_path, numbered(3)), Receiver(away, OSError("broken"), away)
    async with shipper(spool, receiver):
        while spool.pending:
            await asyncio.sleep(0)

    assert numbered(3) == receiver.records
    spool.close()


async def test_records_at_fault_are_set_aside(tmp_path: Path) -> None:
    """A record that the receiver calls malformed does not hold up the others, and is kept for a person."""
    spool, receiver = filled(tmp_path, numbered(100)), Receiver(accepts=lambda record: record not in (b"7", b"42"))
    async with shipper(spool, receiver):
        pass

    assert [record for record in numbered(100) if record not in (b"7", b"42")] == receiver.records
    assert [b"7", b"42"] == scan((tmp_path / "refused").read_bytes()).payloads
    spool.close()


async def test_too_much_at_once(tmp_path: Path) -> None:
    """A batch that is too large for the receiver goes in smaller ones."""
    spool, receiver = filled(tmp_path, numbered(9)), Receiver(MeshError(pb.REASON_TOO_LARGE, "too large"))
    async with shipper(spool, receiver):
        pass

    assert numbered(9) == receiver.records
    assert 4 == len(receiver.batches[0])
    spool.close()


async def test_leaving_takes_no_longer_than_allowed(tmp_path: Path) -> None:
    """With the receiver gone, leaving gives up in time and the next life has the records."""

    async def never(_: list[bytes]) -> None:
        await asyncio.Event().wait()

    spool = filled(tmp_path, numbered(3))
    async with Shipper(spool, never, drain=0.01):
        await asyncio.sleep(0)
    spool.close()
    after = Spool(tmp_path)

    assert numbered(3) == after.read()
    after.close()
