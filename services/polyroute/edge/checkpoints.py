"""What running attempts have cost so far, written down every two seconds: what they are charged if this process dies.

Attempts that are paid from a hold were written down before they were sent; what comes here replaces that. Attempts of
which nobody holds money are written down here for the first time, so that a short call costs nothing more.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from polyroute.api.auth.v1.ledger_pb2 import Settlement
from polyroute.edge.settler import CHECKPOINT_SECONDS, LOST_SECONDS, Settler
from polyroute.mesh.errors import MeshError

_log = structlog.get_logger("checkpoints")


class Running(Protocol):
    """An attempt under way."""

    def so_far(self) -> tuple[bytes, Settlement] | None:
        """What it would be charged now, and what all its settlements have in common; None when that is nothing."""


class Checkpoints:
    """The attempts under way in this process.

    Args:
        settler: Keeps checkpoints.
        holder: Names this life of this process.
        wall: Seconds since the Unix epoch.
        longest: Seconds that a call can last.
    """

    def __init__(self, settler: Settler, holder: str, wall: Callable[[], float], *, longest: float) -> None:
        self._settler = settler
        self._holder = holder
        self._wall = wall
        self._longest = longest
        self._running: dict[int, Running] = {}

    def follow(self, attempt: Running) -> None:
        """An attempt begins."""
        self._running[id(attempt)] = attempt

    def forget(self, attempt: Running) -> None:
        """It has ended."""
        self._running.pop(id(attempt), None)

    def note(self) -> int:
        """Writes down what every attempt has cost so far; of how many."""
        lost_at = Timestamp(seconds=int(self._wall() + self._longest + LOST_SECONDS) + 1)
        noted = 0
        for attempt in list(self._running.values()):
            known = attempt.so_far()
            if known is None:
                continue
            head, settlement = known
            settlement.checkpoint = True
            settlement.holder = self._holder
            settlement.expire_time.CopyFrom(lost_at)
            try:
                self._settler.intend(head, settlement)
            except MeshError as error:
                _log.warning("checkpoints not written", reason=error.message)  # those before them stand
                break
            noted += 1
        return noted

    async def run(self) -> None:
        """Notes for ever."""
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            self.note()
