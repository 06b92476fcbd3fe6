"""Every decision leaves a record: noted on the path of a call, written in batches off it, found by the call's id.

What a call adds is small: its request, the names of catalog, policy and figures, the plan. What calls of a kind share,
which is nearly everything, is stored once for all of them. Both together are a record that `explaining` makes full
again and that replays to the same plan.

The path pays for one append. What waits is bounded: beyond that, decisions are dropped and counted, for no call waits
for its record. A process that is killed loses what it made in the last moment; one that stops writes all of it.
"""

import asyncio
import hashlib
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import structlog

from polyroute.api.errors.v1.errors_pb2 import REASON_NOT_FOUND
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.router.decide import Decided
from polyroute.router.explaining import OF_OTHERS, explain, rebuilt
from polyroute.router.slate import Slate
from polyroute.router.store import DecisionRow, Kept, SlateRow

ROOM: Final = 20_000  # decisions that wait: ten seconds of a busy router, about 40 MB
INTERVAL: Final = 0.5  # s between two batches
TRIM_INTERVAL: Final = 60.0  # s between two looks at what is too old or too much
PAGE: Final = 500
LONGEST_PAGE: Final = 1000
_DAY: Final = 86_400
_MICROSECONDS: Final = 1_000_000
_DIGEST_BYTES: Final = 12
_END: Final = 2**62  # microseconds: beyond every decision
# Members that only full records have.
_WHOLE: Final = ("candidates", "policy_rules", "pool", "name_preferences", "max_attempts", "draws", "request")
_DERIVED: Final = ("verdicts", "terms", "position")  # of a candidate; made again from the rest

_log = structlog.get_logger("router")


class Archive(Protocol):
    """Where decisions are kept; `store.Store` is one."""

    async def keep(self, decisions: Sequence[DecisionRow], slates: Sequence[SlateRow]) -> None:
        """Stores them, in one transaction."""

    async def decision(self, request_id: str) -> Kept | None:
        """A decision; None when none is kept."""

    async def decisions(self, start_us: int, end_us: int, after: int, limit: int) -> list[tuple[int, bytes, bytes]]:
        """Number, digest of the slate and own record, from `after` on."""

    async def slates(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """What decisions share, by digest."""

    async def forget(self, before_us: int, max_bytes: int) -> int:
        """Deletes what is too old or too much."""


class Limits(NamedTuple):
    """How much is kept: days, and bytes of the file."""

    days: float
    max_bytes: int


class Journal:
    """The decisions of this router, and those that other routers of the same file have written.

    Args:
        archive: Where they are kept.
        limits: How much of them.
        clock: Seconds since 1970 UTC.
        room: How many may wait to be written.
    """

    def __init__(self, archive: Archive, limits: Limits, *, clock: Callable[[], float], room: int = ROOM) -> None:
        self._archive = archive
        self._limits = limits
        self._clock = clock
        self._room = room
        self._waiting: deque[Decided] = deque()
        self._writing = asyncio.Lock()
        self._shared: WeakKeyDictionary[Slate, tuple[bytes, bytes]] = WeakKeyDictionary()
        self._dropped = 0

    def note(self, decided: Decided) -> None:
        """Takes a decision; for the path of a call."""
        if len(self._waiting) < self._room:
            self._waiting.append(decided)
        else:
            self._dropped += 1

    async def run(self) -> None:
        """Writes what waits, again and again; what a failure kept from being written is tried again."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self.flush()

    async def trim(self) -> None:
        """Deletes what is too old or too much, again and again."""
        while True:
            await asyncio.sleep(TRIM_INTERVAL)
            before = int((self._clock() - self._limits.days * _DAY) * _MICROSECONDS)
            await self._archive.forget(before, self._limits.max_bytes)

    async def flush(self) -> None:
        """Writes what waits.

        Raises:
            MeshError: It could not be written; it waits on.
        """
        async with self._writing:
            if self._dropped:
                _log.warning("decisions not kept, too many wait to be written", dropped=self._dropped)
                self._dropped = 0
            batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
            if not batch:
                return
            try:
                rows, slates = await asyncio.to_thread(self._rows, batch)
                await self._archive.keep(rows, slates)
            except BaseException:
                self._waiting.extendleft(reversed(batch))
                raise

    async def explain(self, request_id: str) -> pb.DecideResponse:
        """The plan of a call and its full record.

        Raises:
            MeshError: REASON_NOT_FOUND, or the archive's.
        """
        await self.flush()
        found = await self._archive.decision(request_id)
        if found is None:
            raise MeshError(
                REASON_NOT_FOUND,
                f"no decision of call {request_id!r} is kept",
                metadata={"resource": request_id},
            )
        record = pb.DecisionRecord.FromString(found.record)
        response = rebuilt(merged(record, _unpacked(found.shared)))
        again = _planned(response)
        if again != found.planned:  # another version of this program ranks otherwise
            _log.error("a decision does not replay", request_id=request_id, planned=found.planned, replayed=again)
        return response

    async def page(self, start: float, end: float, size: int, token: str, one_of: int) -> pb.ListDecisionsResponse:
        """A page of decisions, oldest first.

        Args:
            start: First moment, seconds since 1970 UTC.
            end: First moment that is not included; 0 means now.
            size: Decisions looked at; 0 means 500.
            token: Where the page before ended.
            one_of: One of so many is listed, chosen by the calls' ids.
        """
        await self.flush()
        limit = min(size or PAGE, LONGEST_PAGE)
        after = int(token) if token.isdecimal() else 0
        end_us = int(end * _MICROSECONDS) if end else _END
        rows = await self._archive.decisions(int(start * _MICROSECONDS), end_us, after, limit)
        response = pb.ListDecisionsResponse(next_page_token=str(rows[-1][0]) if len(rows) == limit else "")
        places: dict[bytes, int] = {}
        for _, digest, own in rows:
            record = pb.DecisionRecord.FromString(own)
            if one_of > 1 and _drawn(record.request_id) % one_of:
                continue
            response.records.append(record)
            response.shared_indices.append(places.setdefault(digest, len(places)))
        shared = await self._archive.slates(list(places))
        response.shared.extend(_unpacked(shared[digest]) for digest in places)
        return response

    def _rows(self, batch: Sequence[Decided]) -> tuple[list[DecisionRow], list[SlateRow]]:
        """What is stored of a batch; runs in a thread of its own."""
        slates: dict[bytes, SlateRow] = {}
        rows: dict[str, DecisionRow] = {}
        for decided in batch:
            digest, body = self._packed(decided)
            name = decided.request.request_id
            time = decided.response.record.decide_time
            time_us = time.seconds * _MICROSECONDS + time.nanos // 1000
            if digest not in slates or slates[digest].used_us < time_us:
                slates[digest] = SlateRow(digest, time_us, body)
            rows[name] = DecisionRow(name, time_us, digest, _planned(decided.response), _own(decided))
        return list(rows.values()), list(slates.values())

    def _packed(self, decided: Decided) -> tuple[bytes, bytes]:
        """What calls of a kind share, compressed, with its digest; made once per slate."""
        found = self._shared.get(decided.slate)
        if found is None:
            record = _common(decided).SerializeToString(deterministic=True)
            digest = hashlib.blake2b(record, digest_size=_DIGEST_BYTES).digest()
            found = self._shared[decided.slate] = (digest, zlib.compress(record, 1))
        return found


def merged(record: pb.DecisionRecord, shared: pb.DecisionRecord) -> pb.DecisionRecord:
    """A record that can be replayed, out of the part of a call and the part that it shares."""
    whole = pb.DecisionRecord()
    whole.CopyFrom(shared)
    whole.MergeFrom(record)
    return whole


def _common(decided: Decided) -> pb.DecisionRecord:
    """What calls of a kind share, without what can be made again from it."""
    full = pb.DecideResponse()
    explain(full, decided.request, decided.named, decided.slate)
    record = full.record
    record.ClearField("request")
    record.ClearField("draws")
    for candidate in record.candidates:
        for name in _DERIVED:
            candidate.ClearField(name)
    return record


def _planned(response: pb.DecideResponse) -> str:
    """Whom a decision tries, one a line."""
    return "\n".join([attempt.deployment for attempt in response.plan.attempts])


def _own(decided: Decided) -> bytes:
    """What differs from call to call: the small record, and the request as its member."""
    request, record = decided.request, decided.response.record
    if request.explain:  # the record is a full one by now
        record = pb.DecisionRecord()
        record.CopyFrom(decided.response.record)
        for name in _WHOLE:
            record.ClearField(name)
    if request.explain or request.reports or request.answering:
        request = pb.DecideRequest()
        request.CopyFrom(decided.request)
        request.explain = False
        for name in OF_OTHERS:
            request.ClearField(name)
    # messages that are joined end to end parse as their merge (https://protobuf.dev/programming-guides/encoding/)
    return record.SerializeToString() + pb.DecisionRecord(request=request).SerializeToString()


def _unpacked(body: bytes) -> pb.DecisionRecord:
    return pb.DecisionRecord.FromString(zlib.decompress(body))


def _drawn(request_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8).digest(), "little")
