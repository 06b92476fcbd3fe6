"""Limits, and the shares of them that edges hold.

Whoever counts calls holds a share: units that were taken from the limit in advance. Nothing is admitted that was not
taken here before, so the shares of all edges together never exceed the limit, however many there are and whatever
becomes of them. Shares are small and short-lived: what an edge does not use it gives back with its next claim, and what
it loses with its life the rate makes good by itself.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple, Protocol

from polyroute.mesh.gcra import SECOND, Rate

RATE_SECONDS: Final = 1  # a share of a rate lasts: what is left over of it may bunch with what comes after
SLOT_SECONDS: Final = 10  # a share of concurrency lasts, unless it is renewed
SEEN_SECONDS: Final = 60  # an edge counts among those that share a limit
BUSY_SECONDS: Final = 1  # to wait for one of the calls under way to end
STATES: Final = 100_000  # limits counted at once before those at rest are forgotten
# Scopes that are no key, project or account.
INSTALLATION: Final = "installation"  # binds all calls, or all that ask for a model
DEPLOYMENT: Final = "deployment"  # binds the attempts at a deployment, which stands where else a model does
COMMON: Final = (INSTALLATION, DEPLOYMENT)
CATALOG: Final = "catalog"  # as a deployment, by the amount that the catalog says: the claim brings it


class Kind(IntEnum):
    """What a limit counts; the values are the contract's."""

    REQUESTS = 1
    TOKENS = 2
    CONCURRENCY = 3


class Place(NamedTuple):
    """Which limit."""

    scope: str
    kind: Kind
    model: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit: units per minute, or calls at once."""

    place: Place
    amount: int
    burst: int = 0

    @property
    def rate(self) -> Rate:
        """The limit as a rate."""
        return Rate(self.amount, self.burst)


@dataclass(frozen=True, slots=True)
class Claim:
    """What an edge wants of a limit; see `LimitClaim` of the contract."""

    limit: Limit
    needed: int
    wanted: int
    returned: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """What it gets. Times are seconds; `retry_after` is None when enough was granted, or when waiting is no use."""

    granted: int
    valid_for: float
    remaining: int
    reset_after: float
    holders: int
    retry_after: float | None = None


class Counters(Protocol):
    """Counts limits for every edge. One process counts in its memory; several count in one place that they share."""

    @property
    def degraded(self) -> bool:
        """Whether this process counts alone what several should count together."""
        ...

    async def lease(self, holder: str, claims: Sequence[Claim]) -> list[Share]:
        """A share for each claim, in their order: none of the rates at all when one of the limits is short."""
        ...


@dataclass(slots=True)
class _State:
    """What is known of one limit."""

    arrival: int = 0
    slots: dict[str, tuple[int, int]] = field(default_factory=dict)  # holder -> calls and when its share ends
    seen: dict[str, int] = field(default_factory=dict)  # holder -> when it claimed last


class LocalCounters:
    """Limits counted in the memory of this process.

    Args:
        clock: Nanoseconds, monotonic.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._states: dict[Place, _State] = {}
        self.degraded = False
        """Never: nobody else counts."""

    async def lease(self, holder: str, claims: Sequence[Claim]) -> list[Share]:
        """A share for each claim, in their order: none of the rates at all when one of the limits is short."""
        now = self._clock()
        for claim in claims:
            self._note(holder, claim, now)
        short = not all(self._admits(holder, claim, now) for claim in claims)
        return [
            self._slots(holder, claim, now)
            if claim.limit.place.kind == Kind.CONCURRENCY
            else self._units(claim, now, short=short)
            for claim in claims
        ]

    def _note(self, holder: str, claim: Claim, now: int) -> None:
        state = self._states.get(claim.limit.place)
        if state is None:
            if len(self._states) >= STATES:
                self._forget(now)
            state = self._states[claim.limit.place] = _State()
        state.seen[holder] = now
        for gone in [name for name, at in state.seen.items() if now - at > SEEN_SECONDS * SECOND]:
            del state.seen[gone]
        if claim.returned:
            state.arrival = claim.limit.rate.returned(state.arrival, claim.returned)

    def _forget(self, now: int) -> None:
        """Drops what is at rest: a limit of which nothing is used needs no memory."""
        for place, state in list(self._states.items()):
            if state.arrival <= now and not any(ends > now for _, ends in state.slots.values()):
                del self._states[place]

    def _admits(self, holder: str, claim: Claim, now: int) -> bool:
        if not claim.needed:
            return True
        if claim.limit.place.kind == Kind.CONCURRENCY:
            return self._room(holder, claim.limit, now) >= claim.needed
        return claim.limit.rate.admits(self._states[claim.limit.place].arrival, now, claim.needed)

    def _room(self, holder: str, limit: Limit, now: int) -> int:
        """Calls that may be under way at an edge, beside those of the others."""
        slots = self._states[limit.place].slots.items()
        others = sum(count for name, (count, ends) in slots if name != holder and ends > now)
        return max(0, limit.amount - others)

    def _units(self, claim: Claim, now: int, *, short: bool) -> Share:
        """A share of a rate: what is needed, and of the rest a part that leaves some for the other edges."""
        state, rate = self._states[claim.limit.place], claim.limit.rate
        granted = 0
        if not short:
            free = max(0, rate.available(state.arrival, now) - claim.needed)
            granted = claim.needed + min(max(0, claim.wanted - claim.needed), free // (len(state.seen) + 1))
            state.arrival = rate.taken(state.arrival, now, granted) if granted else state.arrival
        wait = rate.wait(state.arrival, now, claim.needed) if granted < claim.needed else None
        return Share(
            granted=granted,
            valid_for=RATE_SECONDS,
            remaining=rate.available(state.arrival, now),
            reset_after=rate.reset(state.arrival, now) / SECOND,
            holders=len(state.seen),
            retry_after=None if wait is None else wait / SECOND,
        )

    def _slots(self, holder: str, claim: Claim, now: int) -> Share:
        """A share of concurrency: as many calls as there is room for beside those of the other edges."""
        state = self._states[claim.limit.place]
        for name in [name for name, (_, ends) in state.slots.items() if ends <= now]:
            del state.slots[name]
        room = self._room(holder, claim.limit, now)
        spare = max(0, room - claim.needed) // (len(state.seen) + 1)
        granted = min(room, claim.needed + min(max(0, claim.wanted - claim.needed), spare))
        state.slots[holder] = (granted, now + SLOT_SECONDS * SECOND)
        return Share(
            granted=granted,
            valid_for=SLOT_SECONDS,
            remaining=room - granted,
            reset_after=0.0,
            holders=len(state.seen),
            retry_after=BUSY_SECONDS if granted < claim.needed and claim.limit.amount else None,
        )
