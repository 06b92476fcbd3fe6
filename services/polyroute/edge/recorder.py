"""Call records on their way to metrics: onto the disk of this process first, then shipped in batches."""

from collections import deque
from typing import Any, Final

import structlog

from polyroute.api.metrics.v1.metrics_pb2 import AppendRequest, CallRecord
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError
from polyroute.mesh.spool import Spool

SEND_SECONDS: Final = 10.0

_log = structlog.get_logger("recorder")


class Recorder:
    """Keeps the record of every call.

    A record that cannot be written down waits in memory, and no new billable work is taken on until it could be.

    Args:
        spool: Where records wait.
        stub: MetricsService.
    """

    def __init__(self, spool: Spool, stub: Any) -> None:
        self._spool = spool
        self._stub = stub
        self._unwritten: deque[bytes] = deque()

    def check(self) -> None:
        """Whether the record of another call could be kept.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE when not.
        """
        while self._unwritten:
            self._spool.append(self._unwritten[0])
            self._unwritten.popleft()

    def keep(self, trail: Trail) -> None:
        """Puts the record of a call that is over on disk, once: from then on no death of a process loses it.

        Calls whose caller was never established are not recorded: anybody can make those, in any number.
        """
        if trail.recorded or trail.caller is None:
            return
        trail.recorded = True
        payload = trail.record().SerializeToString()
        try:
            self.check()
            self._spool.append(payload)
        except MeshError as error:
            _log.error("call not recorded yet", request_id=trail.request_id, reason=error.message)
            self._unwritten.append(payload)

    async def send(self, payloads: list[bytes]) -> None:
        """Hands a batch to metrics, which knows the records it already has."""
        records = [CallRecord.FromString(payload) for payload in payloads]
        await self._stub.Append(AppendRequest(records=records), timeout=SEND_SECONDS)
