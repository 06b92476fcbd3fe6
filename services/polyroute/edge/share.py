"""A share of one limit: units that auth has taken from it in advance for this edge, which calls use up."""

import asyncio
import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from polyroute.api.auth.v1.auth_pb2 import LimitClaim, LimitShare
from polyroute.api.auth.v1.limits_pb2 import (
    LIMIT_KIND_CONCURRENCY,
    LIMIT_KIND_REQUESTS,
    LIMIT_KIND_TOKENS,
    Limit,
)
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh.errors import MeshError

AHEAD_SECONDS: Final = 0.5  # of demand that a share is filled up for
PACE_SECONDS: Final = 0.05  # that demand is judged by at least
LOW: Final = 0.25  # of the last filling: time for the next one
RENEW_SECONDS: Final = 3.0  # before a share of concurrency ends
AWAY_SECONDS: Final = 1.0  # between two questions to an auth that does not answer
BURST_SHARE: Final = 6  # of a minute's amount may come at once, where the limit says nothing
MINUTE: Final = 60.0
SPARE_CALLS: Final = 2  # asked for beside those that wait
SOON: Final = 1.0  # s: the least wait that is said where estimates are what a call waits for
INSTALLATION: Final = "installation"  # the scope of limits that bind all callers together
DEPLOYMENT: Final = "deployment"  # of those of attempts, which the operator sets
CATALOG: Final = "catalog"  # and which the catalog says

_BIT: Final = 1e-6
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
    "sub": "plan",
    INSTALLATION: "gateway",
    DEPLOYMENT: "deployment",
    CATALOG: "deployment",
}


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
        under_way: Of concurrency: calls at this moment; of a rate: what they took, which of tokens is an estimate.
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
    told: float = -math.inf  # when auth said these two
    holders: int = 1
    closed_until: float = -math.inf  # auth said no: so many units need not be asked for until then
    closed_units: float = math.inf
    alone_since: float = -math.inf

    @property
    def counts_calls(self) -> bool:
        """Whether it is a share of concurrency."""
        return self.limit.kind == LIMIT_KIND_CONCURRENCY

    @property
    def depth(self) -> int:
        """Of a rate: how many units may come at one moment."""
        return self.limit.burst or max(1, self.limit.amount // BURST_SHARE)

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
        self.under_way += units
        if self.counts_calls:
            self.peak = max(self.peak, self.under_way)
        else:
            self.left -= units
            self.used += units
            self.calls += 1
            self.peak = max(self.peak, units)

    def settle(self, taken: int, used: int) -> None:
        """Puts right an estimate, or ends a call."""
        self.under_way -= taken
        if not self.counts_calls:
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
        if units > self.depth and self.left > 0:
            # such a call waits until nothing is owed: what an earlier one left over is not to be owed meanwhile
            self.returned += int(self.left)
            self.left = 0.0
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
        return self.counts_calls or units - self.left - self.returned >= self.closed_units

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
        self.told = now
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
            depth = self.depth / max(1, self.holders)
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

    def figure(self, now: float, taken: int = 0, used: int = 0) -> Figure:
        """How the limit stands, as far as it is known here: what auth said last, and what came back since.

        Args:
            now: The moment.
            taken: Units of a call under way of which it is known by now how many it used.
            used: So many.
        """
        limit, name = self.limit, _NAMES[self.limit.kind]
        if self.counts_calls:
            left = int(self.left) - self.under_way + self.remaining
            return Figure(name, limit.amount, max(0, min(limit.amount, left)), self.reset)
        if not limit.amount:
            return Figure(name, 0, 0, 0.0)
        pace, passed = limit.amount / MINUTE, now - self.told if self.told > -math.inf else 0.0
        back = self.left + self.returned + taken - used + self._guessed(taken)
        owed = max(0.0, self.reset - passed - back / pace)
        known = min(back + self.remaining + passed * pace, self.depth - owed * pace)
        # what stands for a whole number of units is not to lose one of them in the last bit
        return Figure(name, limit.amount, max(0, min(limit.amount, int(known + _BIT))), owed)

    def refusal(self, now: float) -> MeshError:
        """Says that the limit is reached."""
        limit, owner = self.limit, _OWNERS.get(self.limit.scope.partition("_")[0], "caller")
        figure = self.figure(now)
        metadata = {
            "limit": figure.kind,
            "scope": limit.scope,
            "amount": str(limit.amount),
            "remaining": str(figure.remaining),
            "reset": f"{figure.reset:.3f}",
        }
        if limit.model:
            metadata["model"] = limit.model
        return MeshError(
            pb.REASON_RATE_LIMITED,
            f"{_WORDS[limit.kind]} for this {owner}",
            metadata=metadata,
            retry_after=self._wait(now),
        )

    def _wait(self, now: float) -> float | None:
        """Seconds until another call may pass; None when waiting is no use."""
        if self.closed_until == math.inf:
            return None
        wait = max(0.001, self.closed_until - now)
        if guessed := self._guessed():
            wait = max(min(wait, SOON), wait - guessed * MINUTE / max(1, self.limit.amount))
        return wait

    def _guessed(self, taken: int = 0) -> int:
        """Tokens that calls under way took and will hardly use: all their estimates count for one burst at most."""
        if self.limit.kind != LIMIT_KIND_TOKENS:
            return 0
        return max(0, self.under_way - taken - self.depth)
