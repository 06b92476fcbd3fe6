"""Room at deployments: how many attempts, tokens a minute and attempts at once each may be given.

What a vendor sold and what the catalog says of a deployment bind attempts, not callers: a call whose first deployment
is full goes to the next one of its plan, and is refused only when all of them are. The shares are leased from auth like
those of callers, so all edges together keep to them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from polyroute.api.auth.v1.auth_pb2 import Verdict
from polyroute.api.auth.v1.limits_pb2 import LIMIT_KIND_CONCURRENCY, LIMIT_KIND_TOKENS, Limit
from polyroute.api.chat.v1.chat_pb2 import RequestFacts, Usage
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.router.v1.router_pb2 import Attempt
from polyroute.edge.share import CATALOG, Share
from polyroute.edge.shares import Shares, Taken
from polyroute.edge.sizes import tokens_in, tokens_of
from polyroute.edge.spending import unpayable
from polyroute.mesh.errors import MeshError

KEPT: Final = 10_000  # deployments in memory

_ANYBODY: Final = Verdict()


@dataclass(slots=True)
class Room:
    """What one attempt takes of its deployment.

    Attributes:
        taken: Shares, and how many units of each.
    """

    taken: Taken

    def give_back(self, usage: Usage | None) -> None:
        """Ends the attempt, once or more often: the room is free, and the tokens are as many as it used.

        Args:
            usage: What it used; None when nothing, or nothing known.
        """
        used = 0 if usage is None else tokens_in(usage)
        for share, units in self.taken:
            share.settle(units, used if share.limit.kind == LIMIT_KIND_TOKENS else units)
        self.taken = []


@dataclass(slots=True)
class _Bounds:
    """The shares that bind a deployment, worked out once."""

    most: int  # what the catalog said
    shares: list[Share]


class Capacity:
    """Room at every deployment, as this edge sees it.

    Args:
        shares: Shares of limits.
    """

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._limits: dict[str, list[Limit]] = {}  # by deployment, what its vendor sold
        self._bounds: dict[str, _Bounds] = {}

    def bind(self, limits: Iterable[Limit]) -> None:
        """Says what the operator's limits of deployments are; their `model` names the deployment."""
        found: dict[str, list[Limit]] = {}
        for limit in limits:
            found.setdefault(limit.model, []).append(limit)
        if found != self._limits:
            self._limits = found
            self._bounds.clear()

    async def take(self, attempt: Attempt, facts: RequestFacts) -> Room | None:
        """Takes room for an attempt; None where nothing bounds it.

        Args:
            attempt: What is to be tried.
            facts: Of the call.

        Raises:
            MeshError: REASON_OVERLOADED, the deployment is full; metadata `deployment`, `limit`, `amount`; its
                `retry_after` says when to try again.
        """
        if not attempt.max_concurrency and attempt.deployment not in self._limits:
            return None
        shares = self._bounds_of(attempt).shares
        tokens = tokens_of(facts)
        wanted = [(share, tokens if share.limit.kind == LIMIT_KIND_TOKENS else 1) for share in shares]
        try:
            await self._shares.take(wanted)
        except MeshError as error:
            raise _full(attempt.deployment, error) from None
        return Room(wanted)

    def _bounds_of(self, attempt: Attempt) -> _Bounds:
        name, most = attempt.deployment, attempt.max_concurrency
        bounds = self._bounds.get(name)
        if bounds is None or bounds.most != most:
            limits = list(self._limits.get(name, ()))
            if most:
                limits.append(Limit(scope=CATALOG, kind=LIMIT_KIND_CONCURRENCY, model=name, amount=most))
            if len(self._bounds) >= KEPT:
                self._bounds.clear()
            bounds = self._bounds[name] = _Bounds(most, [self._shares.share(limit) for limit in limits])
        return bounds


class Rooms:
    """The rooms of one call's attempts, by their places in its plan.

    Args:
        capacity: Of the edge.
        verdict: What auth says of the key, which closes deployments that it may not pay for.
    """

    __slots__ = ("_capacity", "_shut", "_taken", "_verdict", "full")

    def __init__(self, capacity: Capacity, verdict: Verdict = _ANYBODY) -> None:
        self._capacity = capacity
        self._verdict = verdict
        self._taken: dict[int, Room] = {}
        self._shut: Mapping[int, MeshError] = {}
        self.full: dict[int, MeshError] = {}
        """Deployments that had no room, or are closed to the key, and what they said."""

    def shut(self, closed: Mapping[int, MeshError]) -> None:
        """Closes deployments to the call: those of models whose limit is reached for it."""
        self._shut = closed
        self.full.update(closed)

    async def take(self, index: int, attempt: Attempt, facts: RequestFacts) -> bool:
        """Takes room for an attempt; whether there was any, and the key may make the attempt."""
        if index in self._shut:
            return False
        closed = unpayable(self._verdict, attempt)
        if closed is not None:
            self.full[index] = closed
            return False
        try:
            room = await self._capacity.take(attempt, facts)
        except MeshError as error:
            self.full[index] = error
            return False
        if room is not None:
            self._taken[index] = room
        return True

    def give_back(self, index: int, usage: Usage | None) -> None:
        """Ends an attempt; see `Room.give_back`."""
        room = self._taken.pop(index, None)
        if room is not None:
            room.give_back(usage)

    def close(self, usage: Usage | None) -> None:
        """Ends all attempts that have not ended."""
        for index in list(self._taken):
            self.give_back(index, usage)

    def refusal(self) -> MeshError:
        """What the caller is told when no deployment of the plan has room: that, and the soonest time to come back."""
        full = [error for error in self.full.values() if error.reason == pb.REASON_OVERLOADED]
        if not full and self.full:
            return next(iter(self.full.values()))
        waits = [error.retry_after for error in full if error.retry_after is not None]
        return MeshError(
            pb.REASON_OVERLOADED,
            "every deployment of this model is busy",
            metadata={"cause": "capacity"},
            retry_after=min(waits, default=None),
        )


def _full(deployment: str, error: MeshError) -> MeshError:
    """Says that a deployment is full, in the words of the limit that is reached."""
    metadata = {name: error.metadata[name] for name in ("limit", "amount") if name in error.metadata}
    return MeshError(
        pb.REASON_OVERLOADED,
        "the deployment has no room for another call",
        metadata={"deployment": deployment, "cause": "capacity"} | metadata,
        retry_after=error.retry_after,
    )
