"""How the ledger is followed over restarts."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import grpc
from grpc.aio import Metadata

from polyroute.api.auth.v1.ledger_pb2 import Adjustment, WatchAdjustmentsRequest, WatchAdjustmentsResponse
from polyroute.mesh.database import locate
from polyroute.metrics.follower import follow
from polyroute.metrics.store import Store
from polyroute.metrics.usage import Filter
from tests.databases import prepare
from tests.unit.metrics.records import NOON


class Ledger:
    """A LedgerService that is away first, then breaks after every message, and has two."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.told = asyncio.Event()

    async def WatchAdjustments(self, request: WatchAdjustmentsRequest) -> AsyncGenerator[WatchAdjustmentsResponse]:
        self.asked.append(request.after_sequence)
        sequence = request.after_sequence + 1
        if len(self.asked) > 1 and sequence <= 2:
            one = Adjustment(request_id=f"r-{sequence}", attempt=1, sequence=sequence, charged_nanos=5, cost_nanos=5)
            one.post_time.FromSeconds(NOON)
            yield WatchAdjustmentsResponse(adjustments=[one], sequence=sequence)
        if sequence > 2:
            self.told.set()
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata())


async def test_from_the_place_that_was_reached(tmp_path: Path) -> None:
    """Whatever breaks, each is heard once."""
    ledger = Ledger()
    async with Store.open(locate("metrics", prepare(tmp_path))) as store:
        following = asyncio.create_task(follow(ledger, store))
        async with asyncio.timeout(5):
            await ledger.told.wait()
        following.cancel()
        await asyncio.wait([following])
        [row] = (await store.usage(Filter(), [])).rows

    assert [0, 0, 1, 2] == ledger.asked[:4]
    assert (2, 10) == (row.calls, row.charged_nanos)
