"""Shares of limits at this edge: calls are counted here, from units that auth has taken from the limits in advance.

In steady state a call costs a look into a dictionary. A share that runs low is filled up beside the calls; one that is
empty is asked for by the first call that needs it, for all that wait. While auth is away this edge counts alone, each
limit by its part among the edges that shared it: a limit may then be exceeded by what it was at most before, and no
call is lost to an outage.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import structlog

from polyroute.api.auth.v1.auth_pb2 import LeaseLimitsRequest, Verdict
from polyroute.api.auth.v1.limits_pb2 import LIMIT_KIND_TOKENS, Limit
from polyroute.edge.authorizer import heard
from polyroute.edge.share import AWAY_SECONDS, Share
from polyroute.mesh.errors import MeshError

KEPT: Final = 100_000  # shares in memory

_log = structlog.get_logger("shares")

Taken = list[tuple[Share, int]]
"""Shares that a call uses, and how many units of each."""


class Wanted(NamedTuple):
    """The shares that a call needs.

    Attributes:
        always: Whatever its model.
        some: If its model is the one that the limit names.
    """

    always: Taken
    some: Taken


@dataclass(slots=True)
class _Bounds:
    """The shares of one key, worked out once per verdict."""

    verdict: Verdict
    always: list[Share]
    some: list[Share]


class Shares:
    """Every share of this edge.

    Args:
        stub: AuthService.
        holder: Names this life of this process.
        clock: Seconds, monotonic.
        timeout: Seconds to wait for auth.
    """

    def __init__(self, stub: Any, holder: str, clock: Callable[[], float], timeout: float) -> None:
        self._stub = stub
        self._holder = holder
        self._clock = clock
        self._timeout = timeout
        self._shares: dict[tuple[str, int, str], Share] = {}
        self._bounds: dict[str, _Bounds] = {}  # by key
        self._away_until = -math.inf
        self.everyone: list[Limit] = []
        """Limits that bind every call, or every call that asks for a model."""
        self.degraded = False
        """Whether limits are not counted together with all other edges just now."""

    def bind(self, everyone: Iterable[Limit]) -> None:
        """Says which limits bind every call."""
        limits = list(everyone)
        if limits != self.everyone:
            self.everyone = limits
            self._bounds.clear()

    def share(self, limit: Limit) -> Share:
        """The share of a limit; without any unit at first."""
        place = (limit.scope, limit.kind, limit.model)
        share = self._shares.get(place)
        if share is None:
            share = self._shares[place] = Share(limit, since=self._clock())
        else:
            share.follow(limit)
        return share

    def of(self, verdict: Verdict, tokens: int) -> Wanted:
        """The shares that a call needs, and how many units of each."""
        key_id = verdict.caller.key_id
        bounds = self._bounds.get(key_id)
        if bounds is None or bounds.verdict is not verdict:
            bounds = self._bounds[key_id] = self._bounds_of(verdict)
        return Wanted(_counted(bounds.always, tokens), _counted(bounds.some, tokens))

    def _bounds_of(self, verdict: Verdict) -> _Bounds:
        if len(self._bounds) >= KEPT:
            self._bounds.clear()
        shares = [self.share(limit) for limit in (*verdict.limits, *self.everyone)]
        always = [share for share in shares if not share.limit.model]
        return _Bounds(verdict, always, [share for share in shares if share.limit.model])

    @property
    def now(self) -> float:
        """The moment, by the clock of all shares."""
        return self._clock()

    def check(self, wanted: Taken) -> None:
        """Refuses what is known to be refused, without taking anything.

        Raises:
            MeshError: As `take`.
        """
        now = self._clock()
        for share, units in wanted:
            if not share.has(units, now) and share.closed(units, now):
                raise share.refusal(now)

    async def take(self, wanted: Taken) -> None:
        """Uses units of every share, or of none.

        Raises:
            MeshError: REASON_RATE_LIMITED; metadata `limit`, `scope`, `amount`, `remaining`, `reset`.
        """
        while True:
            now = self._clock()
            short = [(share, units) for share, units in wanted if not share.has(units, now)]
            if not short:
                break
            self.check(short)
            await self._filled(short, now)
        for share, units in wanted:
            share.take(units)
            if share.low(now) and share.filling is None and now >= self._away_until:
                share.filling = asyncio.create_task(self._fill([(share, 0)]))

    async def take_of(
        self, wanted: Wanted, names: Iterable[str], models: Iterable[str]
    ) -> tuple[Taken, dict[str, MeshError]]:
        """Uses units of the shares of a call whose models are known.

        A limit binds by its model's name in any case, as the catalog reads names.

        Args:
            wanted: What it may need.
            names: By which it asked, and aliases that led on from there.
            models: Those that may serve it; the first of them comes first.

        Returns:
            What was taken; and of models whose limits are reached, while others may serve, what is to be said.

        Raises:
            MeshError: As `take`; nothing was taken.
        """
        asked = {name.casefold() for name in names}
        groups: dict[str, Taken] = {model: [] for model in models}
        folded = {model.casefold(): group for model, group in groups.items()}
        taken = list(wanted.always)
        for share, units in wanted.some:
            model = share.limit.model.casefold()
            if model in folded:
                folded[model].append((share, units))
            elif model in asked:
                taken.append((share, units))
        if len(groups) == 1:
            taken += groups.popitem()[1]
        await self.take(taken)
        try:
            return taken, await self._take_each(groups, taken)
        except BaseException:
            for share, units in taken:
                share.settle(units, 0)
            raise

    async def _take_each(self, groups: Mapping[str, Taken], taken: Taken) -> dict[str, MeshError]:
        """Takes the shares of each model, and adds them to `taken`; the models whose limits are reached, if not all."""
        closed: dict[str, MeshError] = {}
        for model, group in groups.items():
            try:
                await self.take(group)
                taken += group
            except MeshError as error:
                closed[model] = error
        if groups and len(closed) == len(groups):
            raise next(iter(closed.values()))
        return closed

    async def renew(self) -> None:
        """Keeps the shares of calls under way, and gives back what is over."""
        now = self._clock()
        due = [
            (share, 0)
            for share in self._shares.values()
            if share.filling is None and (share.low(now) or share.idle(now))
        ]
        if due and now >= self._away_until:
            await self._fill(due)
        if len(self._shares) > KEPT:
            self._shares = {place: share for place, share in self._shares.items() if share.under_way or share.left}

    async def _filled(self, short: Taken, now: float) -> None:
        """Returns when the shares have been filled, by this call or by another that was first."""
        for share, units in short:
            share.waiting += units
        try:
            if now < self._away_until:
                _fend(short, now)
                return
            busy = next((share.filling for share, _ in short if share.filling is not None), None)
            if busy is None:
                busy = asyncio.create_task(self._fill(short))
                for share, _ in short:
                    share.filling = busy
            await asyncio.shield(busy)
        finally:
            for share, units in short:
                share.waiting -= units
        if self._clock() < self._away_until:
            _fend(short, self._clock())

    async def _fill(self, short: Taken) -> None:
        """Asks auth for shares; notes that it is away when it does not answer."""
        task, now = asyncio.current_task(), self._clock()
        claims = [share.claim(units, now) for share, units in short]
        request = LeaseLimitsRequest(holder=self._holder, claims=claims)
        try:
            response = await heard(self._stub.LeaseLimits(request, timeout=self._timeout))
            now = self._clock()
            for (share, _), claim, given in zip(short, claims, response.shares, strict=True):
                share.fill(given, claim, now)
            self._note(degraded=response.degraded, reason="auth counts alone")
        except MeshError as error:
            self._away_until = self._clock() + AWAY_SECONDS
            self._note(degraded=True, reason=error.message)
        finally:
            for share, _ in short:
                if share.filling is task:
                    share.filling = None

    def _note(self, *, degraded: bool, reason: str) -> None:
        if degraded and not self.degraded:
            _log.warning("limits are counted alone", reason=reason)
        elif self.degraded and not degraded:
            _log.info("limits are counted together")
        self.degraded = degraded


def _counted(shares: Iterable[Share], tokens: int) -> Taken:
    return [(share, tokens if share.limit.kind == LIMIT_KIND_TOKENS else 1) for share in shares]


def _fend(short: Taken, now: float) -> None:
    """Counts alone; refuses what this edge's part of a limit does not allow."""
    for share, units in short:
        if not share.has(units, now):
            share.alone(now)
        if not share.has(units, now):
            share.closed_until = now + AWAY_SECONDS
            raise share.refusal(now)
