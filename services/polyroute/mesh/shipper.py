"""Empties a spool into whoever its records are for, in batches, oldest first, until that one says that it has them.

Delivery is at least once: a crash between the receiver's answer and the acknowledgement sends some of them again, so a
receiver must know what it already has.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import grpc
import structlog

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh.background import Background
from polyroute.mesh.errors import MeshError, from_rpc
from polyroute.mesh.spool import BATCH, Spool

_log = structlog.get_logger("spool")


class Shipper:
    """Empties a spool into a receiver for as long as it is open; on the way out it tries to leave nothing behind.

    A batch that the receiver calls malformed is cut in halves until the record at fault stands alone, which is then set
    aside: one bad record must not hold up the others. After any other failure the same batch goes again, later each
    time.

    Args:
        spool: What to empty.
        send: Hands a batch over; returns once the receiver has it for good. Any exception means that it may not.
        every: Seconds that records may wait for company.
        sync_every: Seconds between syncs: what a power cut may cost.
        drain: Seconds that leaving may take. What is then left waits for the next life.
        first_wait: Seconds before a failed batch goes again; doubled each time.
        longest_wait: Most seconds before a failed batch goes again.
    """

    def __init__(
        self,
        spool: Spool,
        send: Callable[[list[bytes]], Awaitable[None]],
        *,
        every: float = 0.05,
        sync_every: float = 0.2,
        drain: float = 5.0,
        first_wait: float = 0.05,
        longest_wait: float = 2.0,
    ) -> None:
        self._spool = spool
        self._send = send
        self._every = every
        self._sync_every = sync_every
        self._drain = drain
        self._first_wait = first_wait
        self._longest_wait = longest_wait
        self._limit = BATCH
        self._failures = 0
        self._loops = Background()

    async def __aenter__(self) -> Self:
        self._loops.start("spool.ship", self._ship)
        self._loops.start("spool.sync", self._sync)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._loops.__aexit__(kind, error, trace)
        try:
            async with asyncio.timeout(self._drain):
                while self._spool.pending:
                    await self._hand_over()
        except TimeoutError:
            _log.warning("spool not drained", records=self._spool.pending, bytes=self._spool.pending_bytes)
        await asyncio.to_thread(self._spool.sync)

    async def _ship(self) -> None:
        while True:
            await self._spool.wait()
            if self._spool.pending < self._limit:
                await asyncio.sleep(self._every)
            await self._hand_over()

    async def _sync(self) -> None:
        while True:
            await asyncio.sleep(self._sync_every)
            await asyncio.to_thread(self._spool.sync)

    async def _hand_over(self) -> None:
        batch = self._spool.read(self._limit)
        if not batch:
            return
        try:
            await self._send(batch)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the records stay and go again
            await self._failed(error, len(batch))
            return
        self._spool.ack(len(batch))
        self._limit = min(self._limit * 2, BATCH)
        if self._failures:
            _log.info("spool ships again", failures=self._failures, records=self._spool.pending)
            self._failures = 0

    async def _failed(self, error: Exception, count: int) -> None:
        if isinstance(error, grpc.aio.AioRpcError):
            error = from_rpc(error)
        reason = error.reason if isinstance(error, MeshError) else pb.REASON_UNSPECIFIED
        if count > 1 and reason in (pb.REASON_INVALID_REQUEST, pb.REASON_TOO_LARGE):
            self._limit = count // 2
        elif reason == pb.REASON_INVALID_REQUEST:
            _log.error("spool set a record aside", cause=str(error))
            self._spool.set_aside()
        else:
            await self._back_off(error)

    async def _back_off(self, error: Exception) -> None:
        if not self._failures:  # once per outage; `spool ships again` says how often it was tried
            expected = isinstance(error, MeshError)
            _log.warning("spool cannot ship", cause=str(error), exc_info=None if expected else error)
        wait = min(self._first_wait * 2.0 ** min(self._failures, 16), self._longest_wait)
        self._failures += 1
        await asyncio.sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311 - spreads retries, keeps no secret
