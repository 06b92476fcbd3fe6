"""Values that last for a while and cost time to get: fetched once for all who want them, and again before they end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, NamedTuple, TypeVar

import structlog

from polyroute.mesh.errors import MeshError

_log = structlog.get_logger("providers")

V = TypeVar("V")

PAUSE: Final = 10.0  # s after a failed renewal before the next, while the old value still serves


class Lasting(NamedTuple, Generic[V]):
    """A value and for how long it is good.

    Attributes:
        value: The value.
        seconds: How long from now.
    """

    value: V
    seconds: float


class Renewed(Generic[V]):
    """A value that is renewed before it ends, while the old one serves on; only the first wait for it is noticed.

    Args:
        name: What it is, for the log.
        fetch: Gets a new one.
        early: Seconds before its end at which it is renewed.
        clock: Seconds that only grow.
    """

    def __init__(
        self, name: str, fetch: Callable[[], Awaitable[Lasting[V]]], *, early: float, clock: Callable[[], float]
    ) -> None:
        self._name = name
        self._fetch = fetch
        self._early = early
        self._clock = clock
        self._held: tuple[V, float] | None = None
        self._renew_at = 0.0
        self._task: asyncio.Task[V] | None = None

    async def get(self) -> V:
        """The value.

        Raises:
            MeshError: as the fetch, when there is no value that is still good.
        """
        now = self._clock()
        if self._held is not None and now < self._held[1]:
            if now >= self._renew_at and self._task is None:
                self._begin()
            return self._held[0]
        return await asyncio.shield(self._task or self._begin())

    def _begin(self) -> asyncio.Task[V]:
        task = asyncio.create_task(self._renew())
        task.add_done_callback(self._ended)
        self._task = task
        return task

    async def _renew(self) -> V:
        fresh = await self._fetch()
        now = self._clock()
        self._held = (fresh.value, now + fresh.seconds)
        # what lasts but a moment is used for half of it
        self._renew_at = now + max(fresh.seconds - self._early, fresh.seconds / 2)
        return fresh.value

    def _ended(self, task: asyncio.Task[V]) -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._renew_at = self._clock() + PAUSE
            fields = {"error": error.message} if isinstance(error, MeshError) else {"error_type": type(error).__name__}
            _log.warning("credential not renewed", credential=self._name, **fields)
