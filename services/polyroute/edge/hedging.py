"""Two attempts at once: a second begins when the first has no content after a while; whoever answers first is taken.

Until then each attempt has a trail of its own. The one that is outrun is closed, its vendor stops, and it is on record
as what it was: an attempt that the gateway gave up, which may be charged.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from polyroute.api.providers.v1.providers_pb2 import GenerateResponse
from polyroute.edge.call import Call, plan_of
from polyroute.edge.failover import Failure
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError

Attempt = Callable[[Call, Trail, int, int, Callable[[], bool]], AsyncGenerator[GenerateResponse]]


@dataclass(eq=False)
class _Runner:
    """One of the two.

    Attributes:
        index: Its place in the plan.
        trail: What is known of it.
        responses: What it says.
        first: Waits for the first of these.
    """

    index: int
    trail: Trail
    responses: AsyncGenerator[GenerateResponse]
    first: asyncio.Task[GenerateResponse] = field(init=False)

    def __post_init__(self) -> None:
        self.first = asyncio.ensure_future(anext(self.responses))

    async def stop(self) -> None:
        """Ends it, and its vendor's work."""
        self.first.cancel()
        with suppress(asyncio.CancelledError, StopAsyncIteration, MeshError):
            await self.first
        await self.responses.aclose()


class Race:
    """The first attempt of a call, and perhaps a second one beside it.

    Args:
        call: The call; the trail says that its first attempt is being made.
        attempt: Makes one; asks, when it has content, whether the call is its own to answer.
        failures: Where an attempt that failed while the other one ran is added.
    """

    def __init__(self, call: Call, attempt: Attempt, failures: list[Failure]) -> None:
        self._call = call
        self._attempt = attempt
        self._failures = failures
        self._runners: list[_Runner] = []
        self._winner: _Runner | None = None

    async def run(self) -> AsyncGenerator[GenerateResponse]:
        """What the attempt that answers says.

        Raises:
            MeshError: The last attempt's failure, when none answers; or what broke the answer.
        """
        plan = plan_of(self._call)
        try:
            self._begin(0)
            if (
                await self._late(plan.hedge_after.ToMicroseconds() / 1e6)
                and await self._affordable()
                and await self._roomy()
            ):
                self._begin(1)
            winner = await self._decided()
            yield winner.first.result()
            async for response in winner.responses:
                yield response
        except (asyncio.CancelledError, GeneratorExit):
            if self._winner is None:
                self._abandon()
            raise
        finally:
            for runner in self._runners:
                await runner.stop()

    def _begin(self, index: int) -> None:
        call, number = self._call, index + 1
        trail = call.trail.apart(number)
        attempt = plan_of(call).attempts[index]
        if index and call.admission is not None and not call.admission.over:
            call.admission.sent(number, attempt, call.trail.mark(attempt))
        trail.trying(attempt)
        responses = self._attempt(call, trail, index, number, lambda: self._claim(index))
        self._runners.append(_Runner(index, trail, responses))

    async def _late(self, seconds: float) -> bool:
        """Whether the first attempt has said nothing for so long."""
        done, _ = await asyncio.wait([self._runners[0].first], timeout=seconds)
        return not done

    async def _roomy(self) -> bool:
        """Whether the second deployment has room."""
        call, rooms = self._call, self._call.rooms
        return rooms is None or await rooms.take(1, plan_of(call).attempts[1], call.facts)

    async def _affordable(self) -> bool:
        """Whether what is held for the call may be doubled."""
        admission = self._call.admission
        if admission is None or admission.over:
            return True
        try:
            await admission.twice()
        except MeshError:
            return False
        return True

    def _claim(self, index: int) -> bool:
        """An attempt has content: it answers, unless the other one does."""
        if self._winner is not None:
            return False
        self._winner = winner = next(one for one in self._runners if one.index == index)
        others = [one for one in self._runners if one is not winner]
        self._call.trail.joined(winner.trail, others[0].trail if others else None)
        return True

    async def _decided(self) -> _Runner:
        """The attempt that answers."""
        running = list(self._runners)
        while True:
            await asyncio.wait([one.first for one in running], return_when=asyncio.FIRST_COMPLETED)
            if self._winner is not None:
                return self._winner
            for runner in [one for one in running if one.first.done()]:
                running.remove(runner)
                self._lost(runner, last=not running)

    def _lost(self, runner: _Runner, *, last: bool) -> None:
        """One attempt failed before it had any content; the other one goes on."""
        error = runner.first.exception()
        if not isinstance(error, MeshError):
            assert error is not None or runner.first.cancelled()  # noqa: S101 - only the winner has a result
            raise error or asyncio.CancelledError
        if last:
            self._give_up(runner)
            raise error
        runner.trail.failed(error)
        self._failures.append(Failure(runner.index, error))

    def _give_up(self, last: _Runner) -> None:
        """Nobody answers. The call's trail has the attempts, and the last of them still to be ended."""
        others = [one.trail for one in self._runners if one is not last]
        self._call.trail.joined(last.trail, others[0] if others else None)

    def _abandon(self) -> None:
        """The caller went away while nobody had answered yet."""
        first, *others = [one.trail for one in self._runners]
        self._call.trail.joined(first, others[0] if others else None)
