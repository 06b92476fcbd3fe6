"""Loops that run beside the calls: started together, logged and restarted when they fail, cancelled on the way out."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

import structlog

FIRST_WAIT: Final = 0.1  # s before the first restart
LONGEST_WAIT: Final = 5.0  # s between restarts
HEALTHY_AFTER: Final = 30.0  # s a loop must have run for its next failure to count as the first

_log = structlog.get_logger("background")


class Background:
    """Supervises the background loops of one role."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def start(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Runs `loop` until it returns; after an exception it is logged and runs again, later each time."""
        task = asyncio.get_running_loop().create_task(self._supervised(name, loop), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _supervised(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        clock = asyncio.get_running_loop().time
        wait = FIRST_WAIT
        while True:
            began = clock()
            try:
                await loop()
                return
            except Exception:  # noqa: BLE001 - the boundary of a loop: logged, and the loop runs again
                if clock() - began > HEALTHY_AFTER:
                    wait = FIRST_WAIT
                _log.exception("background loop failed", loop=name, retry_in=round(wait, 2))
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311 - spreads restarts, keeps no secret
            wait = min(wait * 2, LONGEST_WAIT)
