"""What one router learns of keys and quotas that rest, told to the others through Redis or Valkey: best effort.

Each router keeps the health of deployments to itself, but a vendor's refusal with the time to come back is true for
all that use the same keys. A server that does not answer costs nothing: each router then finds out by itself.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from polyroute.api.chat.v1.chat_pb2 import OPERATION_UNSPECIFIED, Operation
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.mesh import redis
from polyroute.router.health.rests import Resting
from polyroute.router.health.tracker import Health

EVERY: Final = 0.5  # s between two looks
ANSWER_SECONDS: Final = 0.5
AWAY_SECONDS: Final = 5.0  # until a server that did not answer is asked again
KEY: Final = "{polyroute}:rests"  # sorted set: what rests -> server time in ms at which it is back
_MS: Final = 1000
_log = structlog.get_logger("sharing")


class Board(Protocol):
    """Where routers write what rests."""

    async def exchange(self, news: list[Resting]) -> list[Resting]:
        """Writes news down; gives all that rests now, for the seconds that are left."""


class RedisBoard:
    """A board in Redis.

    Args:
        client: Of the server.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def exchange(self, news: list[Resting]) -> list[Resting]:
        """As `Board` says; times are the server's, so routers' clocks may differ.

        Raises:
            RedisError, OSError: The server does not answer.
        """
        seconds, micros = await self._client.time()
        now = seconds * _MS + micros // _MS
        pipe = self._client.pipeline(transaction=False)
        if news:
            pipe.zadd(KEY, {_member(one): now + int(one.seconds * _MS) for one in news}, gt=True)
        pipe.zremrangebyscore(KEY, "-inf", now)
        pipe.zrange(KEY, 0, -1, withscores=True)
        found = (await pipe.execute())[-1]
        return [one for member, score in found if (one := _resting(member.decode(), (score - now) / _MS))]


class Sharing:
    """Keeps one router's health and the board together.

    Args:
        health: Of this router.
        board: Of all of them.
        clock: Seconds that only grow.
    """

    def __init__(self, health: Health, board: Board, clock: Callable[[], float] = time.monotonic) -> None:
        self._health = health
        self._board = board
        self._clock = clock
        self._away_until = 0.0

    async def run(self) -> None:
        """Looks for ever."""
        while True:
            await asyncio.sleep(EVERY)
            await self.look()

    async def look(self) -> None:
        """Tells and hears once, unless the server is away."""
        news = self._health.take_rests()
        if self._clock() < self._away_until:
            return
        try:
            told = await self._board.exchange(news)
        except (RedisError, OSError) as error:
            self._away_until = self._clock() + AWAY_SECONDS
            _log.warning("cooldowns are not shared", error=type(error).__name__, again_in=AWAY_SECONDS)
            return
        for one in told:
            self._health.rest(one)


def connect(url: str) -> Redis:
    """A client for the server at `url`; connects when it is first asked."""
    return redis.connect(url, seconds=ANSWER_SECONDS, connections=2)


def _member(one: Resting) -> str:
    kind = "provider" if one.provider else Operation.Name(one.operation) if one.operation else "deployment"
    return f"{kind} {Fault.Name(one.fault)} {one.name}"


def _resting(member: str, seconds: float) -> Resting | None:
    """What a member says; None for one of a newer version."""
    kind, _, rest = member.partition(" ")
    fault, _, name = rest.partition(" ")
    if fault not in Fault.keys() or not name:  # noqa: SIM118 - a wrapper
        return None
    if kind in ("provider", "deployment"):
        return Resting(name, kind == "provider", Fault.Value(fault), seconds, OPERATION_UNSPECIFIED)
    if kind not in Operation.keys():  # noqa: SIM118 - a wrapper
        return None
    return Resting(name, False, Fault.Value(fault), seconds, Operation.Value(kind))
