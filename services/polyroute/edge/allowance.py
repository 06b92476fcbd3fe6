"""What calls may take at this edge: their places, their shares of limits and their money, from the door to the ledger.

`Allowances.admit` lets a call in and counts it; what it gives is the call's `admission`. A key without limits and
budgets passes through for the price of a few looks at its verdict.
"""

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import Any, Final
from uuid import uuid4

from polyroute.api.auth.v1.auth_pb2 import Verdict
from polyroute.api.chat.v1.chat_pb2 import RequestFacts
from polyroute.edge.admission import Admission
from polyroute.edge.capacity import Capacity
from polyroute.edge.checkpoints import Checkpoints
from polyroute.edge.common import CommonLimits
from polyroute.edge.intents import Intents
from polyroute.edge.margins import Margins
from polyroute.edge.purse import Purses
from polyroute.edge.settler import Settler
from polyroute.edge.shares import Shares
from polyroute.edge.sizes import tokens_of
from polyroute.edge.spending import narrow, purse_of
from polyroute.edge.turnstile import Turnstile, criticality_of

TICK_SECONDS: Final = 0.5


class Allowances:
    """Limits and money at this edge; `run` must be running.

    Args:
        auth: AuthService.
        ledger: LedgerService.
        settler: Keeps charges.
        clock: Seconds, monotonic.
        wall: Seconds since the Unix epoch.
        timeout: Seconds to wait for auth.
        turnstile: Bounds the calls under way; None means one without a bound.
        longest: Seconds that a call can last.
        holder: Names this life of this process; made up when empty.
        intents: Where attempts under way are written down; None where nothing must outlive this process.
    """

    def __init__(
        self,
        auth: Any,
        ledger: Any,
        settler: Settler,
        clock: Callable[[], float],
        wall: Callable[[], float],
        *,
        timeout: float = 5.0,
        turnstile: Turnstile | None = None,
        longest: float = 3600.0,
        holder: str = "",
        intents: Intents | None = None,
    ) -> None:
        self.holder = holder = holder or uuid4().hex
        self.settler = settler
        self.checkpoints = Checkpoints(settler, holder, wall, longest=longest, intents=intents)
        self.shares = Shares(auth, holder, clock, timeout)
        self.capacity = Capacity(self.shares)
        self.common = CommonLimits(auth, self.shares, self.capacity, clock, timeout)
        self.purses = Purses(ledger, holder, clock, timeout, longest=longest)
        self.margins = Margins(clock)
        self.turnstile = turnstile or Turnstile(0, 0, 0.0, clock)
        self._recalled = asyncio.Event()
        self._free = Admission(self, Verdict(), over=True)  # of every call that nothing bounds

    async def admit(
        self, verdict: Verdict, facts: RequestFacts, criticality: str = "", patience: float = math.inf
    ) -> Admission:
        """Lets a call in when it is its turn, and counts it against the limits of its key and those of all calls.

        Args:
            verdict: What auth says of the key.
            facts: What was read from the request.
            criticality: What the call says of how much it matters; see `turnstile.criticality_of`.
            patience: Seconds until the call's deadline.

        Raises:
            MeshError: REASON_OVERLOADED, it was shed; REASON_RATE_LIMITED; REASON_USAGE_UNAVAILABLE, its charge could
                not be kept.
        """
        limited = bool(verdict.limits or self.shares.everyone)
        if not limited and not verdict.purse and self.turnstile.open and not narrow(verdict):
            # a multiplier bounds nothing; the record of the call says what it makes of the cost
            return Admission(self, verdict, over=True) if verdict.multiplier_millionths else self._free
        admission = Admission(self, verdict, purse_of(verdict))
        if not self.turnstile.open:
            tenant, wanted = verdict.caller.project_id, criticality_of(verdict, criticality)
            admission.place = await self.turnstile.enter(tenant, wanted, patience)
        try:
            await self._count(admission, facts, limited=limited)
        except BaseException:
            if admission.place is not None:
                admission.place.leave()
            raise
        return admission

    async def _count(self, admission: Admission, facts: RequestFacts, *, limited: bool) -> None:
        verdict = admission.verdict
        if admission.purse:
            self.settler.check()
        if limited:
            wanted = self.shares.of(verdict, tokens_of(facts))
            if wanted.some:  # nobody knows yet which models may serve
                self.shares.check(wanted.always)
                admission.wanted = wanted
            else:
                await self.shares.take(wanted.always)
                admission.taken = wanted.always

    def recall(self, purses: Iterable[str]) -> None:
        """Gives back at once what no call needs of some purses, and asks for limits that changed; for `Authorizer`.

        Args:
            purses: Ids of keys, projects and accounts, and the scopes of limits that bind more than one of them.
        """
        recalled = list(purses)
        self.purses.recall(recalled)
        self.common.changed(recalled)
        self._recalled.set()

    async def run(self) -> None:
        """Renews shares and gives money back, for ever."""
        while True:
            self._recalled.clear()
            self.purses.tidy()
            await self.purses.give_back()
            await self.common.renew()
            await self.shares.renew()
            await self._rest()

    async def close(self) -> None:
        """Gives all money back that no call needs; for the end of the process."""
        self.checkpoints.close()
        self.purses.recall_all()
        await self.purses.give_back()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(TICK_SECONDS):
                await self._recalled.wait()
        except TimeoutError:
            return
