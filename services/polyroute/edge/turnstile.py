"""Lets calls in, as many at once as the edge may have under way, and says who waits and who is turned away.

While there is room a call costs two looks at a number. Without a bound it costs one.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from polyroute.api.auth.v1.auth_pb2 import (
    SPEND_CLASS_FREE,
    SPEND_CLASS_INCLUDED,
    Verdict,
)
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.line import Criticality, Line, Waiter
from polyroute.mesh.errors import MeshError

HEADER: Final = "x-polyroute-criticality"  # of HTTP requests; metadata of the same name of gRPC's
LEAST_RETRY: Final = 1.0  # s
LONGEST_RETRY: Final = 30.0
WINDOW_SECONDS: Final = 10.0  # in which the pace is measured
LEAST_WINDOW: Final = 1.0
NOBODY: Final = len(Criticality)  # of classes that are turned away: the first of them

_NAMES: Final = {one.name.lower(): one for one in Criticality}
# What a key may claim at most: work that nobody pays for does not push aside work that somebody pays for.
_HIGHEST: Final = {SPEND_CLASS_INCLUDED: Criticality.DEFAULT, SPEND_CLASS_FREE: Criticality.SHEDDABLE}


def criticality_of(verdict: Verdict, claimed: str) -> Criticality:
    """The class of a call.

    Args:
        verdict: What auth says of the key; its spend class sets the highest class that it may claim.
        claimed: What the call says: `critical`, `default` or `sheddable`; anything else says nothing.
    """
    wanted = _NAMES.get(claimed.lower(), Criticality.DEFAULT) if claimed else Criticality.DEFAULT
    if not verdict.HasField("scope"):
        return wanted
    return max(wanted, _HIGHEST.get(verdict.scope.spend_class, Criticality.CRITICAL))


@dataclass(slots=True)
class Pass:
    """One call that was let in."""

    turnstile: "Turnstile | None"
    tenant: str
    criticality: Criticality

    def leave(self) -> None:
        """Ends the call, once or more often."""
        turnstile, self.turnstile = self.turnstile, None
        if turnstile is not None:
            turnstile.leave(self.tenant, self.criticality)


class Turnstile:
    """Lets calls in.

    Args:
        most: Calls under way at once; 0 means no bound.
        places: Calls that may wait beside them.
        patience: Seconds that a call waits at most.
        clock: Seconds, monotonic.
    """

    def __init__(self, most: int, places: int, patience: float, clock: Callable[[], float]) -> None:
        self.bounded = most > 0
        """Whether there may be only so many calls at once."""
        self.open = not self.bounded
        """Nobody waits and nobody is turned away."""
        self._barred = NOBODY
        self._line = Line(most, places, clock)
        self._patience = patience
        self._clock = clock
        self._free = Pass(None, "", Criticality.DEFAULT)
        self._turns: dict[Waiter, asyncio.Future[bool]] = {}
        self._left = 0  # calls that ended in this window
        self._since = clock()
        self._pace = 0.0  # calls a second that ended in the window before
        self.shed = dict.fromkeys(Criticality, 0)
        """Calls that were turned away, by class."""

    @property
    def under_way(self) -> int:
        """Calls at this moment; 0 without a bound."""
        return self._line.under_way

    @property
    def waiting(self) -> int:
        """Calls that wait at this moment."""
        return self._line.waiting

    async def enter(self, tenant: str, criticality: Criticality, patience: float = math.inf) -> Pass:
        """Lets a call in, at once or when its turn comes.

        Args:
            tenant: Whose it is.
            criticality: How much it matters.
            patience: Seconds until it is too late for it.

        Raises:
            MeshError: REASON_OVERLOADED, it was shed; `retry_after` says when there is likely to be room.
        """
        if criticality >= self._barred:
            self.shed[criticality] += 1
            raise _short_of_memory(criticality)
        if not self.bounded:
            return self._free
        if not self._line.enter(tenant, criticality) and not await self._waited(tenant, criticality, patience):
            self.shed[criticality] += 1
            raise self._overloaded(criticality)
        return Pass(self, tenant, criticality)

    async def _waited(self, tenant: str, criticality: Criticality, patience: float) -> bool:
        """Whether the turn of a call came that there was no room for."""
        self._measure()
        waiter, shed = self._line.wait(tenant, criticality)
        if shed is not None:
            self._tell(shed, admitted=False)
        if waiter is None:
            return False
        self._admit(self._line.turns())  # what is kept free grows less with time, and nothing else may happen for long
        return waiter.admitted or await self._turn(waiter, min(patience, self._patience))

    def leave(self, tenant: str, criticality: Criticality) -> None:
        """Ends a call; for `Pass`."""
        self._left += 1
        self._admit(self._line.leave(tenant, criticality))

    def bar(self, first: int) -> None:
        """Turns away new calls of some classes, because memory runs short; those under way and those that wait go on.

        Args:
            first: The most critical class that is turned away; `NOBODY` for none.
        """
        self._barred = first
        self.open = not self.bounded and first == NOBODY

    def resize(self, most: int) -> None:
        """Bounds the calls under way anew; those that wait go on as far as there is room."""
        self._admit(self._line.resize(most))

    def _admit(self, waiters: list[Waiter]) -> None:
        for waiter in waiters:
            if waiter in self._turns:  # else it came just now, and need not be woken
                self._tell(waiter, admitted=True)

    def _tell(self, waiter: Waiter, *, admitted: bool) -> None:
        turn = self._turns[waiter]
        if not turn.done():  # else it has just been cancelled, and will look for itself
            turn.set_result(admitted)

    async def _turn(self, waiter: Waiter, patience: float) -> bool:
        """Whether its turn came."""
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._turns[waiter] = turn
        try:
            async with asyncio.timeout(patience):
                return await turn
        except TimeoutError:
            return waiter.admitted  # it may have been in the same round of the loop
        except asyncio.CancelledError:
            if waiter.admitted:
                self.leave(waiter.tenant, waiter.criticality)
            raise
        finally:
            del self._turns[waiter]
            if not waiter.admitted and not waiter.shed:
                self._line.give_up(waiter)

    def _measure(self) -> None:
        passed = self._clock() - self._since
        if passed >= WINDOW_SECONDS:
            self._pace, self._left, self._since = self._left / passed, 0, self._clock()

    def _overloaded(self, criticality: Criticality) -> MeshError:
        passed = self._clock() - self._since
        pace = self._left / passed if passed >= LEAST_WINDOW else self._pace
        wait = (self._line.waiting + 1) / pace if pace else LONGEST_RETRY
        return MeshError(
            pb.REASON_OVERLOADED,
            "too many calls at once",
            metadata={"cause": "concurrency", "criticality": criticality.name.lower()},
            retry_after=min(LONGEST_RETRY, max(LEAST_RETRY, wait)),
        )


def _short_of_memory(criticality: Criticality) -> MeshError:
    return MeshError(
        pb.REASON_OVERLOADED,
        "too little memory is left",
        metadata={"cause": "memory", "criticality": criticality.name.lower()},
        retry_after=LEAST_RETRY,
    )
