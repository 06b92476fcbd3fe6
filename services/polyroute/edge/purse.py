"""Money at this edge: allowances that auth has set aside, from which calls are held without asking.

A purse belongs to whoever has the budget: a key, a project or an account. In steady state a hold is a subtraction. When
no allowance has enough, the first call that needs it asks for all that wait; what nobody needs goes back after a few
seconds, and at once when auth recalls it.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import structlog
from google.protobuf.duration_pb2 import Duration

from polyroute.api.auth.v1.auth_pb2 import Caller
from polyroute.api.auth.v1.ledger_pb2 import AllotRequest, AllotResponse, GiveBackRequest, Returned, Settlement
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.authorizer import heard
from polyroute.mesh.errors import MeshError

IDLE_SECONDS: Final = 5.0  # that money may lie here which no call takes
MOST: Final = 1 << 53  # nano-USD asked for at once: nine million USD
MOST_RETURNED: Final = 1000  # in one message

_log = structlog.get_logger("purse")


@dataclass(slots=True)
class Allowance:
    """Money that auth has set aside.

    Attributes:
        free: Not held for any call, nano-USD; below nothing when calls cost more than was held.
        calls: Held from it and not settled.
        usable_until: When no more calls may be held from it.
        taken_at: When the last call was.
        head: The part of a settlement that is the same for all calls held from it, as bytes.
    """

    id: str
    free: int
    usable_until: float
    taken_at: float
    head: bytes = b""
    calls: int = 0
    returns: int = 0


@dataclass(slots=True)
class Hold:
    """What is held for one call, nano-USD."""

    purse: "Purse"
    allowance: Allowance
    amount: int
    over: bool = False

    async def reprice(self, needed: int) -> None:
        """Holds another amount: failover changed what the call can cost.

        Raises:
            MeshError: REASON_BUDGET_EXHAUSTED, more is needed than there is.
        """
        more = needed - self.amount
        if more <= self.allowance.free:
            self.allowance.free -= more
            self.amount = needed
            return
        found = await self.purse.hold(needed, needed)
        self.settle(0)
        self.allowance, self.amount, self.over = found.allowance, found.amount, False

    def settle(self, cost: int) -> None:
        """Ends the hold; once. What the call did cost stays with the allowance until its charge is posted."""
        if self.over:
            return
        self.over = True
        self.allowance.calls -= 1
        self.allowance.free += self.amount - cost


@dataclass(slots=True)
class _Wish:
    """What a call waits for, and what it gets."""

    needed: int
    least: int
    hold: Hold | None = None
    error: MeshError | None = None
    left: bool = False


@dataclass
class Purse:
    """The money of one scope at this edge.

    Args:
        scope: Id of the key, project or account.
        caller: Anybody below it.
        ledger: LedgerService.
        holder: Names this life of this process.
        clock: Seconds, monotonic.
        timeout: Seconds to wait for auth.
        longest: That a call can last.
    """

    scope: str
    caller: Caller
    ledger: Any
    holder: str
    clock: Callable[[], float]
    timeout: float
    longest: Duration
    allowances: list[Allowance] = field(default_factory=list)
    _wishes: list[_Wish] = field(default_factory=list)
    _asking: asyncio.Task[None] | None = None
    _plenty: bool = False  # auth gave more than was needed: it may be asked in advance

    async def hold(self, needed: int, least: int) -> Hold:
        """Holds `needed`, or as much as there is if that is at least `least`.

        Raises:
            MeshError: REASON_BUDGET_EXHAUSTED; REASON_SERVICE_UNAVAILABLE when auth does not answer and no money is
                left here: a hard budget is never opened by an outage.
        """
        found = self.take(needed)
        return await self._wished(_Wish(needed, least)) if found is None else found

    def take(self, needed: int) -> Hold | None:
        """Holds `needed` of what is here; None when that is not enough."""
        now = self.clock()
        for allowance in self.allowances:
            if allowance.free >= needed and now < allowance.usable_until:
                found = self._held(allowance, needed, now)
                if self._plenty and allowance.free < needed and self._asking is None and self._free() < needed:
                    self._asking = asyncio.create_task(self._ask(None))
                return found
        return None

    async def _wished(self, wish: _Wish) -> Hold:
        """What a call holds that has to wait for money."""
        while (found := self.take(wish.needed)) is None:
            if self._asking is None:
                await self._answer(wish)
            else:
                await self._wait(wish)
            if wish.error is not None:
                raise wish.error
            if wish.hold is not None:
                return wish.hold
        return found

    def returnable(self, now: float, *, recalled: bool = False) -> list[Returned]:
        """What goes back now: of allowances that may not be used any more, that nobody used lately, or of all."""
        returned = []
        for allowance in self.allowances:
            idle = now - allowance.taken_at >= IDLE_SECONDS
            if allowance.free > 0 and (recalled or idle or now >= allowance.usable_until):
                allowance.returns += 1
                returned.append(
                    Returned(allowance_id=allowance.id, sequence=allowance.returns, amount_nanos=allowance.free)
                )
                allowance.free = 0
        self.allowances = [one for one in self.allowances if one.calls or one.free > 0]
        return returned

    def _held(self, allowance: Allowance, amount: int, now: float) -> Hold:
        allowance.free -= amount
        allowance.calls += 1
        allowance.taken_at = now
        return Hold(self, allowance, amount)

    def _free(self) -> int:
        now = self.clock()
        return sum(one.free for one in self.allowances if now < one.usable_until)

    async def _wait(self, wish: _Wish) -> None:
        """Waits for the answer to another call's question, which may be the answer to this one too."""
        assert self._asking is not None  # noqa: S101 - otherwise this call asks
        self._wishes.append(wish)
        try:
            await asyncio.wait([self._asking])
        finally:
            self._wishes.remove(wish)

    async def _answer(self, wish: _Wish) -> None:
        """Asks auth; a call that goes away meanwhile leaves its money to the others."""
        asking = self._asking = asyncio.create_task(self._ask(wish))
        try:
            await asyncio.shield(asking)
        except asyncio.CancelledError:
            wish.left = True
            if wish.hold is not None:
                wish.hold.settle(0)
            raise

    async def _ask(self, wish: _Wish | None) -> None:
        """Asks for an allowance: for a wish and for those that wait beside it, or in advance for none."""
        request = AllotRequest(
            allowance_id=uuid4().hex,
            caller=self.caller,
            purse=self.scope,
            needed_nanos=0 if wish is None else min(MOST, wish.needed + sum(other.needed for other in self._wishes)),
            least_nanos=0 if wish is None else wish.least,
            holder=self.holder,
            longest_call=self.longest,
        )
        try:
            response: AllotResponse = await heard(self.ledger.Allot(request, timeout=self.timeout))
            self._put(request, response, wish)
        except MeshError as error:
            self._refuse(error, wish)
        finally:
            self._asking = None

    def _refuse(self, error: MeshError, wish: _Wish | None) -> None:
        """Tells the call that asked, and those beside it that would hear the same."""
        self._plenty = False
        if wish is None:
            return
        told = _as_refusal(error)
        wish.error = told
        left = int(error.metadata.get("remaining") or 0)
        for other in self._wishes:
            if told.reason != pb.REASON_BUDGET_EXHAUSTED or other.least > left:
                other.error = told

    def _put(self, request: AllotRequest, response: AllotResponse, wish: _Wish | None) -> None:
        now, granted = self.clock(), response.granted_nanos
        usable = response.usable_for.ToNanoseconds() / 1e9
        head = Settlement(allowance_id=request.allowance_id).SerializeToString()
        allowance = Allowance(request.allowance_id, granted, now + usable, now, head)
        self.allowances.append(allowance)
        self._plenty = granted > request.needed_nanos
        if wish is not None and not wish.left:
            wish.hold = self._held(allowance, min(wish.needed, granted), now)


def _as_refusal(error: MeshError) -> MeshError:
    """A refusal as it is; anything else means that auth is not there."""
    if error.reason in (pb.REASON_BUDGET_EXHAUSTED, pb.REASON_NOT_PERMITTED):
        return error
    return MeshError(pb.REASON_SERVICE_UNAVAILABLE, "no money can be held just now", retry_after=1.0)


class Purses:
    """Every purse of this edge.

    Args:
        ledger: LedgerService.
        holder: Names this life of this process.
        clock: Seconds, monotonic.
        timeout: Seconds to wait for auth.
        longest: Seconds that a call can last.
    """

    def __init__(self, ledger: Any, holder: str, clock: Callable[[], float], timeout: float, *, longest: float) -> None:
        self._longest = Duration(seconds=math.ceil(longest))
        self._ledger = ledger
        self._holder = holder
        self._clock = clock
        self._timeout = timeout
        self._purses: dict[str, Purse] = {}
        self._returning: list[Returned] = []  # what auth does not have back yet

    def of(self, scope: str, caller: Caller) -> Purse:
        """The purse of a scope."""
        purse = self._purses.get(scope)
        if purse is None:
            purse = Purse(scope, caller, self._ledger, self._holder, self._clock, self._timeout, self._longest)
            self._purses[scope] = purse
        return purse

    def recall(self, scopes: Iterable[str]) -> None:
        """Takes out of some purses what no call needs; `give_back` sends it."""
        now = self._clock()
        for scope in scopes:
            if (purse := self._purses.get(scope)) is not None:
                self._returning += purse.returnable(now, recalled=True)

    def recall_all(self) -> None:
        """Takes out of every purse what no call needs."""
        self.recall(list(self._purses))

    def tidy(self) -> None:
        """Takes out what lies idle, and forgets purses that are empty."""
        now = self._clock()
        for scope, purse in list(self._purses.items()):
            self._returning += purse.returnable(now)
            if not purse.allowances and purse._asking is None:  # noqa: SLF001 - of this module
                del self._purses[scope]

    @property
    def returning(self) -> Sequence[Returned]:
        """What auth does not have back yet."""
        return self._returning

    async def give_back(self) -> None:
        """Sends back what was taken out; what does not arrive goes again the next time, and counts once."""
        while self._returning:
            batch = self._returning[:MOST_RETURNED]
            try:
                await heard(self._ledger.GiveBack(GiveBackRequest(returned=batch), timeout=self._timeout))
            except MeshError as error:
                _log.warning("money not given back yet", reason=error.message, allowances=len(batch))
                return
            del self._returning[: len(batch)]
