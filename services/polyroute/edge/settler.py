"""Charges on their way to the ledger: onto the disk of this process first, then posted in batches.

An attempt that is paid from a budget is written down twice: before it is sent, with what it would be charged if nothing
more were heard of it, and when it is over. Should this process die in between, the first one is charged in its time.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any, Final

import structlog

from polyroute.api.auth.v1.ledger_pb2 import Settlement, SettleRequest
from polyroute.api.metrics.v1.metrics_pb2 import CallRecord
from polyroute.mesh.errors import MeshError
from polyroute.mesh.spool import Spool

SEND_SECONDS: Final = 10.0
RECORD_RULE: Final = "recorded/1"  # of calls that no budget pays for, charged from their records

_log = structlog.get_logger("settler")


class Settler:
    """Keeps charges until the ledger has them.

    Args:
        spool: Where they wait.
        stub: LedgerService.
    """

    def __init__(self, spool: Spool, stub: Any) -> None:
        self._spool = spool
        self._stub = stub
        self._unwritten: deque[bytes] = deque()

    def check(self) -> None:
        """Whether another charge could be kept.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE when not.
        """
        while self._unwritten:
            self._spool.append(self._unwritten[0])
            self._unwritten.popleft()

    def intend(self, head: bytes, settlement: Settlement) -> None:
        """Writes down what an attempt will be charged if it is lost.

        Args:
            head: What is the same in many settlements, as bytes; messages are merged when their bytes are joined
                (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
            settlement: The rest.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE, it could not be: the attempt must not be made.
        """
        self.check()
        self._spool.append(head + settlement.SerializeToString())

    def keep(self, head: bytes, settlements: Iterable[Settlement]) -> None:
        """Writes charges down; those that cannot be wait in memory, and no other attempt is made before they could."""
        for settlement in settlements:
            payload = head + settlement.SerializeToString()
            try:
                self.check()
                self._spool.append(payload)
            except MeshError as error:
                _log.error("charge not written yet", request_id=settlement.request_id, reason=error.message)
                self._unwritten.append(payload)

    async def send(self, payloads: list[bytes]) -> None:
        """Hands a batch to the ledger, which knows the charges that it already has."""
        listed = latest(Settlement.FromString(payload) for payload in payloads)
        await self._stub.Settle(SettleRequest(settlements=listed), timeout=SEND_SECONDS)


def latest(settlements: Iterable[Settlement]) -> list[Settlement]:
    """Without checkpoints that something later in the same batch says more than."""
    kept: list[Settlement] = []
    places: dict[tuple[str, int], int] = {}
    for settlement in settlements:
        place = (settlement.request_id, settlement.attempt)
        before = places.get(place)
        if before is not None and kept[before].checkpoint:
            kept[before] = settlement
        else:
            places[place] = len(kept)
            kept.append(settlement)
    return kept


def of_records(records: Iterable[CallRecord]) -> list[Settlement]:
    """The charges of calls for which no money was held, from their records."""
    return [
        Settlement(
            request_id=record.request_id,
            attempt=max(1, len(record.attempts)),
            caller=record.caller,
            cost_nanos=record.cost_nanos,
            usage=record.usage,
            price_version=record.price_version,
            deployment=record.deployment,
            rule=RECORD_RULE,
            final=True,
        )
        for record in records
        if record.cost_nanos > 0
    ]
