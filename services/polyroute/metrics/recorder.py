"""Takes call records in: many senders' batches into one transaction, and each new record, once, into the figures."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from time import time
from typing import Final

from polyroute.api.metrics.v1.metrics_pb2 import AttemptRecord, CallRecord
from polyroute.mesh.errors import MeshError
from polyroute.metrics.exposition import Exposition
from polyroute.metrics.livestats import LiveStats, sample_of
from polyroute.metrics.rows import Row, row_of

GROUP: Final = 5000  # records per transaction, unless one batch alone is larger
BREATH: Final = 64  # records between which others on this loop get their turn: about a millisecond

Insert = Callable[[Sequence[Row]], Awaitable[Collection[str]]]


@dataclass(slots=True)
class _Batch:
    """What one sender waits for."""

    records: Sequence[CallRecord]
    sent: float | None
    stored: asyncio.Future[int]


class Recorder:
    """Stores call records and feeds the figures.

    While a transaction is being written the batches that arrive gather for the next one, so that the disk is asked
    once for all of them. `run` must be running.

    Args:
        insert: Stores rows in one transaction and names those that were new; see `Store.insert`.
        stats: Live figures of deployments.
        exposition: Figures for Prometheus.
        clock: Seconds since 1970, to know how long ago an attempt ended where the sender does not say when it sent it.
    """

    def __init__(
        self, insert: Insert, stats: LiveStats, exposition: Exposition, *, clock: Callable[[], float] = time
    ) -> None:
        self._insert = insert
        self._stats = stats
        self._exposition = exposition
        self._clock = clock
        self._waiting: deque[_Batch] = deque()
        self._arrived = asyncio.Event()

    async def append(self, records: Sequence[CallRecord], sent: float | None = None) -> int:
        """Returns once the records are on disk: how many of them were new.

        Args:
            records: In the order they were made.
            sent: When, by the clock that their times are of; None when that is the own one.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE when they could not be stored; none of them was.
        """
        batch = _Batch(records, sent, asyncio.get_running_loop().create_future())
        self._waiting.append(batch)
        self._arrived.set()
        return await batch.stored

    async def run(self) -> None:
        """Writes what arrives, for ever."""
        while True:
            await self._arrived.wait()
            group = self._next_group()
            try:
                await self._write(group)
            except BaseException as error:
                _refuse(group, error)
                if not isinstance(error, MeshError):
                    raise

    def _next_group(self) -> list[_Batch]:
        """The batches that go into one transaction."""
        group: list[_Batch] = []
        size = 0
        while self._waiting and (not group or size + len(self._waiting[0].records) <= GROUP):
            size += len(self._waiting[0].records)
            group.append(self._waiting.popleft())
        if not self._waiting:
            self._arrived.clear()
        return group

    async def _write(self, group: Sequence[_Batch]) -> None:
        new = set(await self._insert(await _rows_of(group)))
        for batch in group:
            stored = 0
            now = self._clock() if batch.sent is None else batch.sent
            for index, record in enumerate(batch.records):
                if record.request_id in new:
                    new.remove(record.request_id)  # it may stand in the group twice
                    stored += 1
                    self._feed(record, now)
                if index % BREATH == BREATH - 1:
                    await asyncio.sleep(0)
            if not batch.stored.done():  # the sender may have gone away
                batch.stored.set_result(stored)

    def _feed(self, record: CallRecord, now: float) -> None:
        self._exposition.observe(record)
        for attempt in record.attempts:
            sample = sample_of(attempt, stream=record.stream)
            if sample is not None and attempt.deployment:
                self._stats.observe(attempt.deployment, sample, age=now - _end_of(attempt, record))


async def _rows_of(group: Sequence[_Batch]) -> list[Row]:
    rows: list[Row] = []
    for batch in group:
        for record in batch.records:
            rows.append(row_of(record))
            if len(rows) % BREATH == 0:
                await asyncio.sleep(0)
    return rows


def _end_of(attempt: AttemptRecord, record: CallRecord) -> float:
    """When an attempt ended, seconds since 1970; that of its call where its own begin is not known."""
    if attempt.HasField("start_time"):
        start, microseconds = attempt.start_time, attempt.total_microseconds
    else:
        start, microseconds = record.start_time, record.total_microseconds
    return start.seconds + start.nanos / 1e9 + microseconds / 1e6


def _refuse(group: Sequence[_Batch], error: BaseException) -> None:
    for batch in group:
        if batch.stored.done():
            continue
        if isinstance(error, asyncio.CancelledError):
            batch.stored.cancel()
        else:
            batch.stored.set_exception(error)
