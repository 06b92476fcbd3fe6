"""Work that goes on to its end, whoever of those who wait for it goes away."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Shelter:
    """Tasks that a caller's cancellation does not reach."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, V]) -> V:
        """The outcome of `work`; a caller that is cancelled stops waiting for it and nothing else."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Waits until everything under way has ended, well or badly; the outcome belongs to those who asked."""
        if self._under_way:
            await asyncio.wait(self._under_way)


class Flights(Generic[K, V]):
    """Work that is done once for all who want it at the same moment, by what it is about.

    Whoever asks for work that is under way shares its outcome. A caller that is cancelled stops waiting; the work goes
    on, because others may wait for it and because half of it may be done already.
    """

    def __init__(self) -> None:
        self._under_way: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def __contains__(self, key: K) -> bool:
        return key in self._under_way

    async def join(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        """The outcome of the work about `key`, which `work` begins unless it is under way."""
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(self._fly(key, work))
            self._under_way[key] = task
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Waits until everything under way has ended, well or badly; the outcome belongs to those who asked."""
        if self._under_way:
            await asyncio.wait(self._under_way.values())

    async def _fly(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        try:
            return await work()
        finally:
            # in the task itself, not in a callback: whoever comes after the outcome is known must not get an old one
            del self._under_way[key]
