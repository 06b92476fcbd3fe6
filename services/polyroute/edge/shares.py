"""Shares of limits at this edge: calls are counted here, from units that auth has taken from the limits in advance.

In steady state a call costs a look into a dictionary. A share that runs low is filled up beside the calls; one that is
empty is asked for by the first call that needs it, for all that wait. While auth is away this edge counts alone, each
limit by its part among the edges that shared it: a limit may then be exceeded by what it was at most before, and no
call is lost to an outage.
"""

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import structlog

from polyroute.api.auth.v1.auth_pb2 import LeaseLimitsRequest, LimitClaim, LimitShare, Verdict
from polyroute.api.auth.v1.limits_pb2 import (
    LIMIT_KIND_CONCURRENCY,
    LIMIT_KIND_REQUESTS,
    LIMIT_KIND_TOKENS,
    Limit,
)
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.authorizer import heard
from polyroute.mesh.errors import MeshError

AHEAD_SECONDS: Final = 0.5  # of demand that a share is filled up for
PACE_SECONDS: Final = 0.05  # that demand is judged by at least
LOW: Final = 0.25  # of the last filling: time for the next one
RENEW_SECONDS: Final = 3.0  # before a share of concurrency ends
AWAY_SECONDS: Final = 1.0  # between two questions to an auth that does not answer
BURST_SHARE: Final = 6  # of a minute's amount may come at once, where the limit says nothing
MINUTE: Final = 60.0
SPARE_CALLS: Final = 2  # asked for beside those that wait
KEPT: Final = 100_000  # shares in memory
INSTALLATION: Final = "installation"  # the scope of limits that bind all callers together
DEPLOYMENT: Final = "deployment"  # of those of attempts, which the operator sets
CATALOG: Final = "catalog"  # and which the catalog says

_NAMES: Final = {LIMIT_KIND_REQUESTS: "requests", LIMIT_KIND_TOKENS: "tokens", LIMIT_KIND_CONCURRENCY: "concurrency"}
_WORDS: Final = {
    LIMIT_KIND_REQUESTS: "too many requests a minute",
    LIMIT_KIND_TOKENS: "too many tokens a minute",
    LIMIT_KIND_CONCURRENCY: "too many requests at once",
}
_OWNERS: Final = {
    "key": "key",
    "prj": "project",
    "acc": "account",
    INSTALLATION: "gateway",
    DEPLOYMENT: "deployment",
    CATALOG: "deployment",
}

_log = structlog.get_logger("shares")


class Figure(NamedTuple):
    """How a limit stands: units in all, units left, seconds until all are there again."""

    kind: str
    limit: int
    remaining: int
    reset: float


@dataclass(slots=True)
class Share:
    """What this edge holds of one limit.

    Attributes:
        limit: Which.
        left: Units that may be used yet; below nothing when an estimate was too low.
        until: When they end.
        under_way: Of concurrency: calls at this moment.
    """

    limit: Limit
    left: float = 0.0
    until: float = -math.inf
    under_way: int = 0
    peak: int = 0  # since the last claim: most calls under way; of a rate the most units that one call took
    returned: int = 0  # units that auth gets back with the next claim
    waiting: int = 0  # units that calls wait for
    filling: asyncio.Task[None] | None = None
    filled: float = 0.0  # the last filling
    used: int = 0  # since then
    calls: int = 0  # since then
    since: float = 0.0
    remaining: int = 0
    reset: float = 0.0
    holders: int = 1
    closed_until: float = -math.inf  # auth said no: so many units need not be asked for until then
    closed_units: float = math.inf
    alone_since: float = -math.inf

    @property
    def counts_calls(self) -> bool:
        """Whether it is a share of concurrency."""
        return self.limit.kind == LIMIT_KIND_CONCURRENCY

    def has(self, units: int, now: float) -> bool:
        """Whether so many units may be used."""
        if self.counts_calls:
            return now < self.until and self.under_way + units <= self.left
        if now >= self.until and self.left > 0:  # what is over comes back to everybody
            self.returned += int(self.left)
            self.left = 0.0
        return self.left >= units

    def take(self, units: int) -> None:
        """Uses units that it has."""
        if self.counts_calls:
            self.under_way += units
            self.peak = max(self.peak, self.under_way)
        else:
            self.left -= units
            self.used += units
            self.calls += 1
            self.peak = max(self.peak, units)

    def settle(self, taken: int, used: int) -> None:
        """Puts right an estimate, or ends a call."""
        if self.counts_calls:
            self.under_way -= taken
        else:
            self.left += taken - used
            self.used += used - taken

    def claim(self, units: int, now: float) -> LimitClaim:
        """What to ask auth for: the units of one call, those that others wait for, and what is likely to come."""
        limit = self.limit
        claim = LimitClaim(scope=limit.scope, kind=limit.kind, model=limit.model)
        if limit.scope == CATALOG:
            claim.amount = limit.amount
        if self.counts_calls:
            claim.needed = self.under_way + units
            claim.wanted = max(claim.needed, self.under_way + self.waiting, self.peak) + (SPARE_CALLS if units else 0)
            self.peak = self.under_way
            return claim
        self.has(0, now)
        claim.returned, self.returned = self.returned, 0
        claim.needed = max(0, math.ceil(units - self.left)) if units else 0
        passed = now - self.since
        pace = max(0.0, self.used / max(passed, PACE_SECONDS))
        # a call takes an estimate and gives most of it back: without the room for one more, each would ask anew
        room = max(self.peak, units) if passed < AHEAD_SECONDS else 0
        ahead = max(pace * AHEAD_SECONDS + room, self.waiting)
        claim.wanted = max(claim.needed, math.ceil(ahead - max(0.0, self.left)))
        self.peak = 0
        return claim

    def closed(self, units: int, now: float) -> bool:
        """Whether auth said lately that so many units cannot be had."""
        if now >= self.closed_until:
            return False
        return self.counts_calls or units - self.left >= self.closed_units

    def follow(self, limit: Limit) -> None:
        """Takes a newer form of the limit; what auth said of the older one does not count any more."""
        self.limit = limit
        self.closed_until = -math.inf

    def fill(self, share: LimitShare, claim: LimitClaim, now: float) -> None:
        """Takes what auth gives."""
        valid = share.valid_for.ToNanoseconds() / 1e9
        if self.counts_calls:
            self.left = float(share.granted)
        else:
            self.left += share.granted
            self.filled = self.left
            self.used, self.calls, self.since = 0, 0, now
        self.until = now + valid
        self.remaining, self.reset, self.holders = (
            share.remaining,
            share.reset_after.ToNanoseconds() / 1e9,
            share.holders,
        )
        self.alone_since = -math.inf
        short = share.granted < claim.needed
        self.closed_units = claim.needed if short else math.inf
        if not short:
            self.closed_until = -math.inf
        elif share.HasField("retry_after"):
            self.closed_until = now + share.retry_after.ToNanoseconds() / 1e9
        else:
            self.closed_until = math.inf if not self.limit.amount else now

    def alone(self, now: float) -> None:
        """Counts without auth: this edge's part of the limit."""
        part = self.limit.amount / max(1, self.holders)
        if self.counts_calls:
            self.left = max(1.0, part // 1) if self.limit.amount else 0.0
        else:
            depth = (self.limit.burst or max(1, self.limit.amount // BURST_SHARE)) / max(1, self.holders)
            gained = depth if self.alone_since == -math.inf else part / MINUTE * (now - self.alone_since)
            self.left = min(max(1.0, depth), self.left + gained)
        self.alone_since = now
        self.until = now + AWAY_SECONDS

    def low(self, now: float) -> bool:
        """Whether it should be filled up before a call has to wait."""
        if self.counts_calls:
            return bool(self.under_way) and now >= self.until - RENEW_SECONDS
        # one call at a time asks for itself: only a caller in a hurry is worth asking for in advance
        return self.calls > 1 and self.left < self.filled * LOW

    def idle(self, now: float) -> bool:
        """Whether auth should have something back; asked about twice a second."""
        if self.counts_calls:
            peak, self.peak = self.peak, self.under_way  # what was not used between two looks is not needed
            return self.left > peak + SPARE_CALLS * bool(peak) and now < self.until
        self.has(0, now)
        return bool(self.returned)

    def figure(self) -> Figure:
        """How the limit stands, as far as it is known here."""
        own = self.left - (self.under_way if self.counts_calls else 0)
        return Figure(_NAMES[self.limit.kind], self.limit.amount, max(0, int(own) + self.remaining), self.reset)

    def refusal(self, now: float) -> MeshError:
        """Says that the limit is reached."""
        limit, owner = self.limit, _OWNERS.get(self.limit.scope.partition("_")[0], "caller")
        metadata = {
            "limit": _NAMES[limit.kind],
            "scope": limit.scope,
            "amount": str(limit.amount),
            "remaining": str(self.figure().remaining),
            "reset": f"{self.reset:.3f}",
        }
        if limit.model:
            metadata["model"] = limit.model
        wait = None if self.closed_until == math.inf else max(0.001, self.closed_until - now)
        return MeshError(
            pb.REASON_RATE_LIMITED, f"{_WORDS[limit.kind]} for this {owner}", metadata=metadata, retry_after=wait
        )


Taken = list[tuple[Share, int]]
"""Shares that a call uses, and how many units of each."""


@dataclass(slots=True)
class _Bounds:
    """The shares of one key, worked out once per verdict."""

    verdict: Verdict
    shares: list[Share]
    by_model: bool


class Shares:
    """Every share of this edge.

    Args:
        stub: AuthService.
        holder: Names this life of this process.
        clock: Seconds, monotonic.
        timeout: Seconds to wait for auth.
    """

    def __init__(self, stub: Any, holder: str, clock: Callable[[], float], timeout: float) -> None:
        self._stub = stub
        self._holder = holder
        self._clock = clock
        self._timeout = timeout
        self._shares: dict[tuple[str, int, str], Share] = {}
        self._bounds: dict[str, _Bounds] = {}  # by key
        self._away_until = -math.inf
        self.everyone: list[Limit] = []
        """Limits that bind every call, or every call that asks for a model."""
        self.degraded = False
        """Whether limits are not counted together with all other edges just now."""

    def bind(self, everyone: Iterable[Limit]) -> None:
        """Says which limits bind every call."""
        limits = list(everyone)
        if limits != self.everyone:
            self.everyone = limits
            self._bounds.clear()

    def share(self, limit: Limit) -> Share:
        """The share of a limit; without any unit at first."""
        place = (limit.scope, limit.kind, limit.model)
        share = self._shares.get(place)
        if share is None:
            share = self._shares[place] = Share(limit, since=self._clock())
        else:
            share.follow(limit)
        return share

    def of(self, verdict: Verdict, model: str, tokens: int) -> Taken:
        """The shares that a call needs, and how many units of each."""
        key_id = verdict.caller.key_id
        bounds = self._bounds.get(key_id)
        if bounds is None or bounds.verdict is not verdict:
            bounds = self._bounds[key_id] = self._bounds_of(verdict)
        return [
            (share, tokens if share.limit.kind == LIMIT_KIND_TOKENS else 1)
            for share in bounds.shares
            if not bounds.by_model or share.limit.model in ("", model)
        ]

    def _bounds_of(self, verdict: Verdict) -> _Bounds:
        if len(self._bounds) >= KEPT:
            self._bounds.clear()
        limits = [*verdict.limits, *self.everyone]
        return _Bounds(verdict, [self.share(limit) for limit in limits], any(limit.model for limit in limits))

    async def take(self, wanted: Taken) -> None:
        """Uses units of every share, or of none.

        Raises:
            MeshError: REASON_RATE_LIMITED; metadata `limit`, `scope`, `amount`, `remaining`, `reset`.
        """
        while True:
            now = self._clock()
            short = [(share, units) for share, units in wanted if not share.has(units, now)]
            if not short:
                break
            for share, units in short:
                if share.closed(units, now):
                    raise share.refusal(now)
            await self._filled(short, now)
        for share, units in wanted:
            share.take(units)
            if share.low(now) and share.filling is None and now >= self._away_until:
                share.filling = asyncio.create_task(self._fill([(share, 0)]))

    async def renew(self) -> None:
        """Keeps the shares of calls under way, and gives back what is over."""
        now = self._clock()
        due = [
            (share, 0)
            for share in self._shares.values()
            if share.filling is None and (share.low(now) or share.idle(now))
        ]
        if due and now >= self._away_until:
            await self._fill(due)
        if len(self._shares) > KEPT:
            self._shares = {place: share for place, share in self._shares.items() if share.under_way or share.left}

    async def _filled(self, short: Taken, now: float) -> None:
        """Returns when the shares have been filled, by this call or by another that was first."""
        for share, units in short:
            share.waiting += units
        try:
            if now < self._away_until:
                _fend(short, now)
                return
            busy = next((share.filling for share, _ in short if share.filling is not None), None)
            if busy is None:
                busy = asyncio.create_task(self._fill(short))
                for share, _ in short:
                    share.filling = busy
            await asyncio.shield(busy)
        finally:
            for share, units in short:
                share.waiting -= units
        if self._clock() < self._away_until:
            _fend(short, self._clock())

    async def _fill(self, short: Taken) -> None:
        """Asks auth for shares; notes that it is away when it does not answer."""
        task, now = asyncio.current_task(), self._clock()
        claims = [share.claim(units, now) for share, units in short]
        request = LeaseLimitsRequest(holder=self._holder, claims=claims)
        try:
            response = await heard(self._stub.LeaseLimits(request, timeout=self._timeout))
            now = self._clock()
            for (share, _), claim, given in zip(short, claims, response.shares, strict=True):
                share.fill(given, claim, now)
            self._note(degraded=response.degraded, reason="auth counts alone")
        except MeshError as error:
            self._away_until = self._clock() + AWAY_SECONDS
            self._note(degraded=True, reason=error.message)
        finally:
            for share, _ in short:
                if share.filling is task:
                    share.filling = None

    def _note(self, *, degraded: bool, reason: str) -> None:
        if degraded and not self.degraded:
            _log.warning("limits are counted alone", reason=reason)
        elif self.degraded and not degraded:
            _log.info("limits are counted together")
        self.degraded = degraded


def _fend(short: Taken, now: float) -> None:
    """Counts alone; refuses what this edge's part of a limit does not allow."""
    for share, units in short:
        if not share.has(units, now):
            share.alone(now)
        if not share.has(units, now):
            share.closed_until = now + AWAY_SECONDS
            raise share.refusal(now)
