"""Charges on their way to the ledger: onto the disk of this process first, then posted in batches.

An attempt that is paid from a budget is written down twice: before it is sent, with what it would be charged if nothing
more were heard of it, and when it is over. Should this process die in between, the first one is charged: when the next
life of this process says that this one has ended, or else in its time. What no budget pays for is charged from the
call's record, which is on the disk anyway, off the path of the call.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from polyroute.api.auth.v1.ledger_pb2 import EndHolderRequest, Settlement, SettleRequest
from polyroute.api.metrics.v1.metrics_pb2 import OUTCOME_COMPLETED, AttemptCharge, CallRecord
from polyroute.edge.authorizer import heard
from polyroute.edge.charging import QUARANTINED, plausible
from polyroute.mesh.errors import MeshError
from polyroute.mesh.spool import Spool

SEND_SECONDS: Final = 10.0
CHECKPOINT_SECONDS: Final = 2.0  # between two notes of what a running attempt has cost
LOST_SECONDS: Final = 60.0  # after a call's deadline, when it counts as lost
MODEL_CHARACTERS: Final = 64  # four bytes each at most, as the contract bounds it
COMPLETED_RULE: Final = "completed/2"  # as the table of `charging` has it
UNCHARGED_RULE: Final = "uncharged/1"  # of attempts that cost nothing, and of which the ledger may have a checkpoint

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
        self._inherited = spool.pending  # of the life before, not sent yet
        self._settled = asyncio.Event()  # nothing of it is left
        if not self._inherited:
            self._settled.set()

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
        self._inherited -= len(payloads)
        if self._inherited <= 0:
            self._settled.set()

    def charge(self, records: Iterable[CallRecord]) -> None:
        """Writes down what calls are charged for which no money was held.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE, it cannot be; repeating it charges nothing twice.
        """
        charges = [settlement.SerializeToString() for settlement in of_records(records)]
        if charges:
            self.check()
            self._spool.extend(charges)

    async def end(self, holder: str) -> None:
        """Tells the ledger that the life before of this process is over, once all that it wrote down has arrived."""
        await self._settled.wait()
        ended = await heard(self._stub.EndHolder(EndHolderRequest(holder=holder), timeout=SEND_SECONDS))
        if ended.lost or ended.allowances:
            _log.warning("an earlier life of this process was settled", lost=ended.lost, allowances=ended.allowances)


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


def of_records(records: Iterable[CallRecord]) -> Iterator[Settlement]:
    """The charges of calls for which no money was held, from their records."""
    for record in records:
        if not record.held and record.HasField("caller"):
            yield from _of_record(record)


def _of_record(record: CallRecord) -> Iterator[Settlement]:
    charged = set[int]()
    for row in _charges(record):
        charged.add(row.attempt)
        settlement = _settlement(record, row.attempt, row.rule)
        settlement.usage.CopyFrom(row.usage)
        settlement.price_version = row.price_version
        if row.HasField("cost_nanos"):
            settlement.cost_nanos = row.cost_nanos
        yield settlement
    if not record.noted:
        return
    for number in range(1, len(record.attempts) + 1):
        if number not in charged:
            settlement = _settlement(record, number, UNCHARGED_RULE)
            settlement.cost_nanos = 0
            yield settlement


def _charges(record: CallRecord) -> Sequence[AttemptCharge]:
    """What the attempts of a call are charged; a record of one that simply completed says it without a row."""
    if record.charges or record.outcome != OUTCOME_COMPLETED or not record.attempts:
        return record.charges
    if record.HasField("cost_nanos") and not record.cost_nanos:
        return ()
    known = plausible(record.usage)
    row = AttemptCharge(
        attempt=len(record.attempts),
        usage=record.usage,
        rule=COMPLETED_RULE if known else QUARANTINED,
        price_version=record.price_version,
    )
    if known and record.HasField("cost_nanos"):
        row.cost_nanos = record.cost_nanos
    return (row,)


def _settlement(record: CallRecord, number: int, rule: str) -> Settlement:
    deployment = record.attempts[number - 1].deployment if number <= len(record.attempts) else record.deployment
    return Settlement(
        request_id=record.request_id,
        attempt=number,
        caller=record.caller,
        deployment=deployment,
        model=record.model[:MODEL_CHARACTERS],
        rule=rule,
    )


def succeed(path: Path, holder: str) -> str:
    """Writes down who has a folder from now on; who had it before, empty for nobody."""
    former = path.read_text().strip() if path.exists() else ""
    written = path.with_suffix(".new")
    written.write_text(holder)
    written.replace(path)
    return former
