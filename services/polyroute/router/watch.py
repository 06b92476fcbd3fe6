"""Holds a watch of another service open for ever: over its restarts, and before it is there at all."""

import asyncio
import random
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Final, TypeVar

import grpc
import structlog

_FIRST_WAIT: Final = 0.1  # seconds; doubled with each failure, up to
_LONGEST_WAIT: Final = 2.0
_log = structlog.get_logger("router")

Message = TypeVar("Message")


async def follow(
    peer: str,
    watch: Callable[[], AsyncIterable[Message]],
    accept: Callable[[Message], None],
    *,
    lost: Callable[[], None] = lambda: None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Hands every message of a watch on.

    Args:
        peer: Who is watched, for the log: one line when it is lost and one when it is back.
        watch: Opens the watch.
        accept: Takes a message.
        lost: Called after each broken or failed watch.
        sleep: Waits some seconds.
    """
    failures = 0
    while True:
        try:
            async for message in watch():
                if failures:
                    _log.info("watch restored", peer=peer, failures=failures)
                failures = 0
                accept(message)
            reason = "ended"
        except grpc.aio.AioRpcError as error:
            reason = error.code().name
        failures += 1
        if failures == 1:
            _log.warning("watch lost", peer=peer, reason=reason)
        lost()
        longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(failures - 1, 10))
        await sleep(random.uniform(longest / 2, longest))  # noqa: S311 - spreads reconnects, no secret
