"""Call records on their way to metrics: onto the disk of this process first, then shipped in batches."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

import structlog

from polyroute.api.metrics.v1.metrics_pb2 import AppendRequest, CallRecord
from polyroute.edge.record import record_of
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError
from polyroute.mesh.spool import Spool

SEND_SECONDS: Final = 10.0
WRITE_SECONDS: Final = 0.5  # between two tries to write down what waits in memory

_log = structlog.get_logger("recorder")


def _nothing(_records: Iterable[CallRecord]) -> None:
    """Whoever has no ledger charges nobody."""


class Recorder:
    """Keeps the record of every call.

    A record that cannot be written down waits in memory, and no new billable work is taken on until it could be.

    Args:
        spool: Where records wait.
        stub: MetricsService.
        charge: Told of records on their way out, to charge those calls that nothing else charges; at least once each.
    """

    def __init__(self, spool: Spool, stub: Any, charge: Callable[[Iterable[CallRecord]], None] = _nothing) -> None:
        self._charge = charge
        self._charged: set[str] = set()  # on their way out, and charged already
        self._spool = spool
        self._stub = stub
        self._unwritten: deque[tuple[Trail, bytes]] = deque()

    def check(self) -> None:
        """Whether the record of another call could be kept, beside those of all calls that are going on.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE when not.
        """
        self._write()
        self._spool.check()

    async def run(self) -> None:
        """Writes down what waits in memory as soon as that is possible, for ever; tries once more when it is ended."""
        try:
            while True:
                await asyncio.sleep(WRITE_SECONDS)
                self._try()
        finally:
            self._try()

    def _write(self) -> None:
        while self._unwritten:
            trail, payload = self._unwritten[0]
            self._spool.append(payload)
            trail.recorded = True
            self._unwritten.popleft()

    def _try(self) -> None:
        with suppress(MeshError):  # the spool has said so
            self._write()

    def keep(self, trail: Trail) -> None:
        """Puts the record of a call that is over on disk, once: from then on no death of a process loses it.

        Calls whose caller was never established are not recorded: anybody can make those, in any number.
        """
        if trail.kept or trail.caller is None:
            return
        trail.kept = True
        payload = record_of(trail).SerializeToString()
        try:
            self._write()
            self._spool.append(payload)
        except MeshError as error:
            _log.error("call not recorded yet", request_id=trail.request_id, reason=error.message)
            self._unwritten.append((trail, payload))
        else:
            trail.recorded = True

    async def send(self, payloads: list[bytes]) -> None:
        """Hands a batch to metrics, which knows the records it already has."""
        request = AppendRequest()
        for payload in payloads:
            request.records.add().MergeFromString(payload)
        self._charge([record for record in request.records if record.request_id not in self._charged])
        self._charged.update(record.request_id for record in request.records)
        request.sent_time.GetCurrentTime()
        await self._stub.Append(request, timeout=SEND_SECONDS)
        self._charged.clear()
