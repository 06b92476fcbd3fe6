"""Charges on their way to the ledger: onto the disk of this process first, then posted in batches.

What is paid from a budget is written down by the call itself when it is over. What no budget pays for is charged from
the call's record, which is on the disk anyway, off the path of the call. What an attempt costs that is under way stands
in `intents` and is noted by `checkpoints`: should this process die, its next life has that charged.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from polyroute.api.auth.v1.ledger_pb2 import EndHolderRequest, Settlement, SettleRequest
from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.metrics.v1.metrics_pb2 import OUTCOME_COMPLETED, AttemptCharge, CallRecord
from polyroute.edge.authorizer import heard
from polyroute.edge.charging import ONCE, QUARANTINED, ChargeRow, Ending, plausible
from polyroute.edge.heads import Heads, Origin
from polyroute.mesh.errors import MeshError
from polyroute.mesh.spool import Spool

SEND_SECONDS: Final = 10.0
CHECKPOINT_SECONDS: Final = 2.0  # between two notes of what a running attempt has cost
LOST_SECONDS: Final = 60.0  # after a call's deadline, when it counts as lost
COMPLETED_RULE: Final = Ending.COMPLETED.rule
UNCHARGED_RULE: Final = "uncharged/1"  # of attempts that cost nothing, and of which the ledger may have a checkpoint
AS_SET: Final = 0  # a multiplier that the ledger looks up

_NOTHING: Final = Usage()

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
        self.heads = Heads()
        self._unwritten: deque[bytes] = deque()
        self._broken_off: frozenset[str] = frozenset()  # calls of the life before
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

    @property
    def waiting(self) -> bool:
        """Whether charges wait in memory, because the disk did not take them."""
        return bool(self._unwritten)

    def intend(self, payload: bytes) -> None:
        """Writes down what an attempt will be charged if it is lost.

        Args:
            payload: A settlement as bytes; those of several are merged when they are joined
                (https://protobuf.dev/programming-guides/encoding/#last-one-wins), so that what is the same in many is
                made once.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE, it could not be: the attempt must not be made.
        """
        self.check()
        self._spool.append(payload)

    def keep(self, payload: bytes) -> bool:
        """Writes a charge down; one that cannot be waits in memory, and no other attempt is made before it could.

        Returns:
            Whether it is on the disk.
        """
        try:
            self.check()
            self._spool.append(payload)
        except MeshError as error:
            request_id = Settlement.FromString(payload).request_id
            _log.error("charge not written yet", request_id=request_id, reason=error.message)
            self._unwritten.append(payload)
            return False
        return True

    def inherit(self, intents: Collection[bytes], holder: str, expires: int) -> None:
        """Takes on what the life before of this process had under way when it ended.

        Args:
            intents: Settlements as bytes, of attempts that may be settled all the same.
            holder: That life.
            expires: When they are lost, should nobody say earlier that it has ended; seconds since the Unix epoch.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE, they cannot be written down yet; repeating it charges nothing twice.
        """
        if not intents:
            return
        expire = Timestamp(seconds=expires)
        lost = Settlement(checkpoint=True, opening=True, holder=holder, expire_time=expire).SerializeToString()
        self.check()
        self._broken_off = frozenset(Settlement.FromString(intent).request_id for intent in intents)
        self._spool.extend([intent + lost for intent in intents])
        self._inherited = max(0, self._inherited) + len(intents)
        self._settled.clear()

    async def send(self, payloads: list[bytes]) -> None:
        """Hands a batch to the ledger, which knows the charges that it already has."""
        request = SettleRequest()
        settlements = request.settlements
        noted = False
        for payload in payloads:
            settlement = settlements.add()
            settlement.MergeFromString(payload)
            noted = noted or settlement.checkpoint
        if noted:
            request = SettleRequest(settlements=latest(settlements))
        await self._stub.Settle(request, timeout=SEND_SECONDS)
        self._inherited -= len(payloads)
        if self._inherited <= 0:
            self._settled.set()

    def charge(self, records: Iterable[CallRecord]) -> None:
        """Writes down what calls are charged for which no money was held.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE, it cannot be; repeating it charges nothing twice.
        """
        charges = [payload for record in records for payload in self._of_record(record)]
        if charges:
            self.check()
            self._spool.extend(charges)

    def _of_record(self, record: CallRecord) -> Iterator[bytes]:
        """The charges of a call for which no money was held."""
        if record.held or not record.HasField("caller"):
            return
        caller = self.heads.caller(record.caller, _multiplier(record))
        charged = set[int]()
        for row in charged_by(record):
            charged.add(row.attempt)
            yield caller + self.heads.charge(record.request_id, _origin(record, row.attempt), row)
        # what was written down of an attempt that cost nothing is taken back
        if record.noted or record.request_id in self._broken_off:
            for number in range(1, len(record.attempts) + 1):
                if number not in charged:
                    nothing = ChargeRow(number, _NOTHING, 0, UNCHARGED_RULE)
                    yield caller + self.heads.charge(record.request_id, _origin(record, number), nothing)

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
            if not settlement.opening:
                kept[before] = settlement
        else:
            places[place] = len(kept)
            kept.append(settlement)
    return kept


def charged_by(record: CallRecord) -> Iterable[ChargeRow]:
    """What the attempts of a call are charged; a record of one that simply completed says it without a row."""
    if record.charges:
        return [_row(row) for row in record.charges]
    if record.outcome != OUTCOME_COMPLETED or not record.attempts:
        return ()
    cost = record.cost_nanos if record.HasField("cost_nanos") else None
    if cost == 0:
        return ()
    if plausible(record.usage):
        return (ChargeRow(len(record.attempts), record.usage, cost, COMPLETED_RULE),)
    return (ChargeRow(len(record.attempts), record.usage, None, QUARANTINED),)


def _multiplier(record: CallRecord) -> int:
    """By what the record's charge was worked out; 0, which has the ledger look it up, where an older record differs."""
    same = record.charged_nanos == record.cost_nanos
    return record.multiplier_millionths or (ONCE if same else AS_SET)


def _row(said: AttemptCharge) -> ChargeRow:
    return ChargeRow(said.attempt, said.usage, said.cost_nanos if said.HasField("cost_nanos") else None, said.rule)


def _origin(record: CallRecord, number: int) -> Origin:
    """Where an attempt went, and the version of its price."""
    deployment = record.attempts[number - 1].deployment if number <= len(record.attempts) else record.deployment
    version = next((row.price_version for row in record.charges if row.attempt == number), "")
    return deployment, record.model, version if record.charges else record.price_version


def succeed(path: Path, holder: str) -> str:
    """Writes down who has a folder from now on; who had it before, empty for nobody."""
    former = path.read_text().strip() if path.exists() else ""
    written = path.with_suffix(".new")
    written.write_text(holder)
    written.replace(path)
    return former
