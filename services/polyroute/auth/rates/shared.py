"""Limits that several auth roles count together, in a Redis or Valkey that they share.

One script takes all shares of one question, by the server's clock: no two edges get the same unit, whichever auth they
ask. What is in Redis may be lost at any time. Emptied, every limit begins anew, which is one more burst at most. While
it does not answer, each auth counts alone, its part of every limit among those that counted together: nobody is refused
for that, and what they let through is at most what they would have together, and one more burst.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any, Final
from uuid import uuid4

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from polyroute.auth.rates.limits import RATE_SECONDS, SLOT_SECONDS, Claim, Kind, LocalCounters, Place, Share
from polyroute.mesh import redis

AWAY_SECONDS: Final = 1.0  # between two questions to a Redis that does not answer
ANSWER_SECONDS: Final = 0.25  # that it may take: counting alone is better than waiting
CONNECTIONS: Final = 8
PREFIX: Final = "{polyroute}:limits"  # the braces keep all keys in one slot of a cluster, as one script needs it
MICRO: Final = 1_000_000

_log = structlog.get_logger("limits")


def connect(url: str) -> Redis:
    """A client for the server at `url`, for counting; connects when it is first asked."""
    return redis.connect(url, seconds=ANSWER_SECONDS, connections=CONNECTIONS)


class RedisCounters:
    """Limits counted in Redis, and by this process alone while it does not answer.

    Args:
        client: Of the server.
        clock: Seconds, monotonic; says when an absent server is asked again.
    """

    def __init__(self, client: Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._script = client.register_script(files(__package__).joinpath("lease.lua").read_text(encoding="utf-8"))
        self._clock = clock
        self._alone = LocalCounters()
        self._name = uuid4().hex
        self._together = 1  # how many count in the server, this one included
        self._away_until = -math.inf
        self.degraded = False
        """Whether this process counts alone."""

    async def lease(self, holder: str, claims: Sequence[Claim]) -> list[Share]:
        """A share for each claim, in their order: none of the rates at all when one of the limits is short."""
        if not claims:
            return []
        if self._clock() >= self._away_until:
            try:
                answer = await self._script(*_question(self._name, holder, claims))
            except (RedisError, OSError) as error:
                self._lost(error)
            else:
                self._found(answer[0])
                return [_share(claim, told) for claim, told in zip(claims, answer[1:], strict=True)]
        return await self._alone.lease(holder, [self._part(claim) for claim in claims])

    async def close(self) -> None:
        """Ends the connections."""
        await self._client.aclose()

    def _part(self, claim: Claim) -> Claim:
        """The claim on this process's part of the limit."""
        limit = claim.limit
        amount = -(-limit.amount // self._together)
        burst = max(1, limit.rate.depth // self._together)
        return replace(claim, limit=replace(limit, amount=amount, burst=burst))

    def _lost(self, error: Exception) -> None:
        self._away_until = self._clock() + AWAY_SECONDS
        if not self.degraded:
            self.degraded = True
            _log.warning("limits are counted alone", error=type(error).__name__, among=self._together)

    def _found(self, together: int) -> None:
        self._together = max(1, together)
        if self.degraded:
            self.degraded = False
            self._alone = LocalCounters()
            _log.info("limits are counted together", among=self._together)


def _question(name: str, holder: str, claims: Sequence[Claim]) -> tuple[list[str], list[str | int]]:
    """The script's keys and arguments."""
    keys = [f"{PREFIX}:counting", *(_key(claim.limit.place) for claim in claims)]
    arguments: list[str | int] = [name, holder]
    for claim in claims:
        limit = claim.limit
        calls = int(limit.place.kind == Kind.CONCURRENCY)
        arguments += (calls, limit.amount, limit.rate.depth, claim.needed, claim.wanted, claim.returned)
    return keys, arguments


def _key(place: Place) -> str:
    return f"{PREFIX}:{place.kind.name.lower()}:{place.scope}:{place.model}"


def _share(claim: Claim, told: Sequence[Any]) -> Share:
    granted, remaining, reset, holders, wait = told
    return Share(
        granted=granted,
        valid_for=SLOT_SECONDS if claim.limit.place.kind == Kind.CONCURRENCY else RATE_SECONDS,
        remaining=remaining,
        reset_after=reset / MICRO,
        holders=holders,
        retry_after=None if wait < 0 else wait / MICRO,
    )
