"""What becomes of an entry: claimed by one call at a time, given back when its lease lapses, done for a day.

Pure: what stands there and what is asked make what stands there next. Times are microseconds since the Unix epoch.
"""

from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from polyroute.api.idempotency.v1 import idempotency_pb2 as pb

KEPT_SECONDS: Final = 24 * 3600.0
_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands under one id.

    Attributes:
        fingerprint: Of the request.
        state: RUNNING, DONE or NOT_KEPT.
        claim: The call that has it, or had it.
        lease: Until when a running call has it.
        expires: When it is forgotten.
        answer: What was answered; None when that is not kept, or stands in the table only.
    """

    fingerprint: bytes
    state: pb.EntryState.ValueType
    claim: str
    lease: int
    expires: int
    answer: pb.Answer | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a claim met.

    Attributes:
        state: CLAIMED when the entry is the asking call's own now.
        claim: The call that has the entry, or had it.
        answer: What it answered, when that is kept.
    """

    state: pb.EntryState.ValueType
    claim: str
    answer: pb.Answer | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A call wants an entry of its own.

    Attributes:
        id: The entry's.
        fingerprint: Of the request.
        claim: The call's id.
        lease: Seconds for which it is the call's.
    """

    id: bytes
    fingerprint: bytes
    claim: str
    lease: float

    def meets(self, entry: Entry | None, now: int) -> tuple[Entry | None, Found]:
        """What stands there next, and what the call hears; the answer that is kept is not looked for."""
        if entry is None or _free(entry, now) or _held(entry, self.claim):
            lease, expires = now + _micro(self.lease), now + _micro(KEPT_SECONDS)
            mine = Entry(self.fingerprint, pb.ENTRY_STATE_RUNNING, self.claim, lease, expires)
            return mine, Found(pb.ENTRY_STATE_CLAIMED, self.claim)
        if entry.fingerprint != self.fingerprint:
            return entry, Found(pb.ENTRY_STATE_MISMATCH, entry.claim)
        return entry, Found(entry.state, entry.claim)


@dataclass(frozen=True, slots=True)
class Prolong:
    """A call is still under way: its lease runs for so many seconds from now on."""

    id: bytes
    claim: str
    lease: float

    def meets(self, entry: Entry | None, now: int) -> tuple[Entry | None, bool]:
        """What stands there next, and whether the entry is the call's."""
        if entry is None or not _held(entry, self.claim):
            return entry, False
        return replace(entry, lease=now + _micro(self.lease)), True


@dataclass(frozen=True, slots=True)
class Keep:
    """A call is over with an answer, or with one that is too large to keep."""

    id: bytes
    claim: str
    answer: pb.Answer | None

    def meets(self, entry: Entry | None, now: int) -> tuple[Entry | None, bool]:
        """What stands there next, and whether the entry was the call's."""
        if entry is None or not _held(entry, self.claim):
            return entry, False
        state = pb.ENTRY_STATE_NOT_KEPT if self.answer is None else pb.ENTRY_STATE_DONE
        return replace(entry, state=state, answer=self.answer), True


@dataclass(frozen=True, slots=True)
class Release:
    """A call was not made, or may be made again."""

    id: bytes
    claim: str

    def meets(self, entry: Entry | None, now: int) -> tuple[Entry | None, bool]:
        """What stands there next, and whether the entry was the call's."""
        if entry is None or not _held(entry, self.claim):
            return entry, False
        return None, True


Change: TypeAlias = Claim | Prolong | Keep | Release


def _free(entry: Entry, now: int) -> bool:
    """Whether an entry is anybody's: it is too old, or its call was lost."""
    return entry.expires <= now or (entry.state == pb.ENTRY_STATE_RUNNING and entry.lease <= now)


def _held(entry: Entry, claim: str) -> bool:
    """Whether a call has the entry: also one whose first request was heard, and the answer was lost."""
    return entry.state == pb.ENTRY_STATE_RUNNING and entry.claim == claim


def _micro(seconds: float) -> int:
    return int(seconds * _MILLION)
