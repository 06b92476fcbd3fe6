"""Work on a database in batches: whatever waits at one moment costs one change of threads and one wait for the disk."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

W = TypeVar("W")
R = TypeVar("R")

MOST: Final = 256


class Batches(Generic[W, R]):
    """Pieces of work, done in the order in which they came.

    Args:
        work: Does them, in a thread; gives their outcomes in the same order. What it raises, each of them raises.
        most: Pieces of one batch.
    """

    def __init__(self, work: Callable[[Sequence[W]], list[R]], most: int = MOST) -> None:
        self._work = work
        self._most = most
        self._waiting: deque[tuple[W, asyncio.Future[R]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def run(self, piece: W) -> R:
        """The outcome of a piece; one whose caller goes away is done all the same."""
        outcome: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((piece, outcome))
        if self._task is None:
            self._task = asyncio.create_task(self._drain())
        return await outcome

    async def close(self) -> None:
        """Waits for everything that was begun."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._done([self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))])
        finally:
            self._task = None

    async def _done(self, batch: list[tuple[W, asyncio.Future[R]]]) -> None:
        waiting = [outcome for _, outcome in batch]
        try:
            outcomes = await asyncio.to_thread(self._work, [piece for piece, _ in batch])
        except Exception as error:  # noqa: BLE001 - the boundary of a batch: each of its callers is told
            for outcome in waiting:
                if not outcome.done():
                    outcome.set_exception(error)
            return
        for outcome, result in zip(waiting, outcomes, strict=True):
            if not outcome.done():  # whoever is gone was cancelled
                outcome.set_result(result)
