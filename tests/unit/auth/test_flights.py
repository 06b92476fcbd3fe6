"""Work done once for all who want it."""

import asyncio

import pytest

from polyroute.auth.flights import Flights


class Work:
    """Work that ends when it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.begun += 1
        return await self.outcome


async def test_callers_at_the_same_moment_share_the_work() -> None:
    """It is begun once, and everyone gets its outcome."""
    flights, work = Flights[str, str](), Work()
    callers = [asyncio.create_task(flights.join("a", work)) for _ in range(3)]
    await asyncio.sleep(0)
    work.outcome.set_result("done")

    assert await asyncio.gather(*callers) == ["done"] * 3
    assert (work.begun, len(flights)) == (1, 0)


async def test_later_callers_begin_it_anew() -> None:
    """An outcome is shared, not remembered."""
    flights, work = Flights[str, str](), Work()
    work.outcome.set_result("done")
    await flights.join("a", work)
    await flights.join("a", work)

    assert work.begun == 2


async def test_failure_reaches_every_caller() -> None:
    """And is not remembered either."""
    flights, work = Flights[str, str](), Work()
    callers = [asyncio.create_task(flights.join("a", work)) for _ in range(2)]
    await asyncio.sleep(0)
    work.outcome.set_exception(OSError("gone"))
    outcomes = await asyncio.gather(*callers, return_exceptions=True)

    assert [str(outcome) for outcome in outcomes] == ["gone", "gone"]
    assert "a" not in flights


async def test_work_outlives_a_caller_that_goes_away() -> None:
    """The others still get its outcome, and closing waits for it."""
    flights, work = Flights[str, str](), Work()
    first, second = (asyncio.create_task(flights.join("a", work)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    closing = asyncio.create_task(flights.close())
    await asyncio.sleep(0)
    still_waiting = not closing.done()
    work.outcome.set_result("done")
    await closing

    assert still_waiting
    assert await second == "done"
    with pytest.raises(asyncio.CancelledError):
        await first
