"""Whom an edge turns away when memory runs short: the least critical calls first, before the kernel ends them all."""

import asyncio
from typing import Final

import structlog

from polyroute.edge.line import Criticality
from polyroute.edge.turnstile import NOBODY, Turnstile
from polyroute.mesh.memory import Memory, trim

SAMPLE_SECONDS: Final = 0.25
TRIM_SECONDS: Final = 5.0  # between two tries to give memory back: they stop the process for a moment
SLACK: Final = 0.02  # below where a class was barred before it is let in again: else every call would be another story
# From which part of the memory on which class, and those below it, is turned away.
LEVELS: Final = ((0.95, Criticality.CRITICAL), (0.92, Criticality.DEFAULT), (0.85, Criticality.SHEDDABLE))

_log = structlog.get_logger("scarcity")


def barred(part: float, before: int) -> int:
    """The most critical class that is turned away; `NOBODY` for none.

    Args:
        part: Of the memory, in use.
        before: What was answered last.
    """
    for level, criticality in LEVELS:
        if part >= level - (SLACK if before <= criticality else 0.0):
            return criticality
    return NOBODY


class Scarcity:
    """Watches the memory and bars a turnstile.

    Args:
        turnstile: Whose.
        memory: Of this process.
    """

    def __init__(self, turnstile: Turnstile, memory: Memory) -> None:
        self._turnstile = turnstile
        self._memory = memory
        self._barred = NOBODY

    async def run(self) -> None:
        """Watches for ever."""
        loop = asyncio.get_running_loop()
        trimmed = -TRIM_SECONDS
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            self.look()
            if self._barred != NOBODY and loop.time() - trimmed >= TRIM_SECONDS:
                trim()  # what was freed meanwhile may still be the process's
                trimmed = loop.time()

    def look(self) -> None:
        """Takes one sample."""
        used = self._memory.in_use()
        now = barred(used / self._memory.most, self._barred)
        if now == self._barred:
            return
        self._barred = now
        self._turnstile.bar(now)
        shed = [one.name.lower() for one in Criticality if one >= now]
        _log.warning("memory", in_use=used, most=self._memory.most, shed=shed)
