"""Loops beside the calls."""

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from polyroute.mesh import background
from polyroute.mesh.background import Background


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the supervisor waited, without waiting."""
    told: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        told.append(seconds)
        await sleep(0)

    monkeypatch.setattr("polyroute.mesh.background.asyncio.sleep", note)
    monkeypatch.setattr("polyroute.mesh.background.random.uniform", lambda low, high: (low + high) / 2)
    return told


class Loop:
    """Fails as often as told, then returns."""

    def __init__(self, failures: int) -> None:
        self.left = failures
        self.done = asyncio.Event()

    async def __call__(self) -> None:
        if self.left:
            self.left -= 1
            raise OSError("gone")
        self.done.set()


async def test_loop_that_fails_runs_again_later_each_time(waits: list[float]) -> None:
    """Doubled, up to a bound; each failure is logged with its loop."""
    loop = Loop(8)
    with capture_logs() as logs:
        async with asyncio.timeout(2), Background() as tasks:
            tasks.start("watch", loop)
            await loop.done.wait()

    assert [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0] == pytest.approx(waits)
    assert [("background loop failed", "watch")] * 8 == [(line["event"], line["loop"]) for line in logs]


async def test_loop_that_ran_well_begins_anew(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure after a long time is the first one."""
    monkeypatch.setattr(background, "HEALTHY_AFTER", -1)
    loop = Loop(3)
    async with asyncio.timeout(2), Background() as tasks:
        tasks.start("watch", loop)
        await loop.done.wait()

    assert [0.1, 0.1, 0.1] == pytest.approx(waits)


async def test_loop_that_returns_is_over(waits: list[float]) -> None:
    """It has done its work."""
    loop = Loop(0)
    async with asyncio.timeout(2), Background() as tasks:
        tasks.start("once", loop)
        await loop.done.wait()
        await asyncio.sleep(0)

    assert [0] == waits


async def test_leaving_ends_every_loop() -> None:
    """And waits until each has cleaned up."""
    ended: list[str] = []

    def loop(name: str) -> Callable[[], object]:
        async def run() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append(name)

        return run

    async with asyncio.timeout(2):
        async with Background() as tasks:
            for name in ("a", "b"):
                tasks.start(name, loop(name))  # type: ignore[arg-type] # coroutine functions
            await asyncio.sleep(0)

    assert ["a", "b"] == sorted(ended)


async def test_one_loops_failure_is_not_the_others(waits: list[float]) -> None:
    """They are supervised one by one."""
    bad, good = Loop(1), Loop(0)
    async with asyncio.timeout(2), Background() as tasks:
        tasks.start("bad", bad)
        tasks.start("good", good)
        await good.done.wait()
        await bad.done.wait()

    assert 1 == len(waits)
