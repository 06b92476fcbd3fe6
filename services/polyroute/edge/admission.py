"""One call that was let in: what it takes of its key's limits and money, until it is settled.

`hold` holds the most it can cost once the plan is known; `sent` writes down that an attempt begins; `close` settles all
of it, once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from polyroute.api.auth.v1.auth_pb2 import Verdict
from polyroute.api.auth.v1.limits_pb2 import LIMIT_KIND_TOKENS
from polyroute.api.chat.v1.chat_pb2 import RequestFacts, Usage
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.router.v1.router_pb2 import Attempt
from polyroute.edge.bill import bill_of
from polyroute.edge.charging import ONCE, ChargeRow, multiplied
from polyroute.edge.checkpoints import Checkpoints
from polyroute.edge.heads import origin_of
from polyroute.edge.margins import Margins
from polyroute.edge.purse import Hold, Purses
from polyroute.edge.settler import UNCHARGED_RULE, Settler
from polyroute.edge.share import INSTALLATION, Figure
from polyroute.edge.shares import Shares, Taken, Wanted
from polyroute.edge.sizes import tokens_in
from polyroute.edge.spending import is_free, payable
from polyroute.edge.turnstile import Pass
from polyroute.mesh.errors import MeshError

_NOWHERE: Final = Attempt()
_NOTHING: Final = Usage()


class House(Protocol):
    """What all calls of an edge draw on.

    Attributes:
        settler: Keeps charges.
        checkpoints: Where attempts under way are written down.
        purses: Money that auth has set aside here.
        margins: What prompts turned out longer than they were estimated.
        shares: Units of limits that auth has taken in advance.
    """

    settler: Settler
    checkpoints: Checkpoints
    purses: Purses
    margins: Margins
    shares: Shares


@dataclass(slots=True)
class Admission:
    """One call that was let in.

    Attributes:
        house: Where its money comes from and its charges go.
        purse: Whose money is held for it; empty where nobody's is.
        taken: Shares of limits that it uses.
        wanted: Shares that it is to take once its models are known; None when it has them.
        paid: What is held for it; None when nothing has to be.
        place: Its place among the calls under way; None where these are not bounded.
    """

    house: House
    verdict: Verdict
    purse: str = ""
    taken: Taken = field(default_factory=list)
    wanted: Wanted | None = None
    paid: Hold | None = None
    over: bool = False
    place: Pass | None = None
    head: bytes = b""
    """What all settlements of a call that is held for have in common; empty for others."""
    _payer: bytes = b""  # the part of it that says who pays, and by which multiplier
    _request_id: str = ""
    _tokens: int = 0  # of the prompt
    _bound: int = 0  # the most that one attempt can cost
    _tried: dict[int, Attempt] = field(default_factory=dict)
    _slots: tuple[int, ...] = ()  # in which its attempts are written down
    _settled: frozenset[int] = frozenset()

    async def count(self, names: Iterable[str], attempts: Sequence[Attempt]) -> dict[int, MeshError]:
        """Counts the call against its limits where some of them are of models: those that may serve it are known now.

        Args:
            names: By which it asked, and aliases that led on from there.
            attempts: What may be tried.

        Returns:
            Places of attempts that must not be made because the limit of their model is reached, and what to say of it.

        Raises:
            MeshError: REASON_RATE_LIMITED; nothing was taken then.
        """
        wanted, self.wanted = self.wanted, None
        if wanted is None:
            return {}
        models = [attempt.model for attempt in attempts]
        self.taken, closed = await self.house.shares.take_of(wanted, names, models)
        return {place: closed[model] for place, model in enumerate(models) if model in closed}

    async def hold(self, request_id: str, attempts: Sequence[Attempt], facts: RequestFacts) -> int | None:
        """Holds the most that the call can cost.

        Args:
            request_id: The call.
            attempts: What may be tried.
            facts: What was read from the request.

        Returns:
            The most tokens that each answer may have, where the caller gave no bound and somebody has to pay: the door
            must ask the vendor for no more. None when there is nothing to add.

        Raises:
            MeshError: REASON_BUDGET_EXHAUSTED; REASON_NO_DEPLOYMENT, no price is known; REASON_NOT_PERMITTED, the
                key may use only what is free, and nothing is; REASON_SERVICE_UNAVAILABLE. For want of money never where
                all of what may be tried is free.
        """
        able = payable(self.verdict, attempts)
        if not self.purse:
            return None
        caller = self.verdict.caller
        bill = bill_of(able, facts, self.multiplier, self.house.margins)
        purse = self.house.purses.of(self.purse, caller)
        needed = bill.needed
        try:
            paid = self.paid = purse.take(needed) or await purse.hold(needed, bill.least)
        except MeshError:
            if not all(is_free(attempt.price) for attempt in able):
                raise
            return None  # an account that owes, or an auth that is away, stands in the way of nothing that is free
        self._request_id, self._tokens, self._bound = request_id, facts.input_tokens_estimate, paid.amount
        # what the hold was worked out with is what the charge is worked out with
        self._payer = self.house.settler.heads.caller(caller, self.multiplier)
        self.head = self._payer + paid.allowance.head
        return None if bill.bounded else bill.affordable(paid.amount)

    async def reprice(self, charged: Iterable[ChargeRow]) -> None:
        """Holds what earlier attempts are charged as well, before another one is made.

        Raises:
            MeshError: REASON_BUDGET_EXHAUSTED, another attempt cannot be paid.
        """
        if self.paid is None:
            return
        rows = list(charged)
        if spent := self._sum(rows):
            await self._rehold(spent + self._bound)
        # on the disk before another one begins: whatever becomes of that, this is what these cost
        self._keep(rows)

    async def twice(self) -> None:
        """Holds the cost of two attempts, before a second one is made beside the first.

        Raises:
            MeshError: REASON_BUDGET_EXHAUSTED, two cannot be paid.
        """
        if self.paid is not None:
            await self._rehold(2 * self._bound)

    async def _rehold(self, needed: int) -> None:
        """Holds another amount, which may come from another allowance."""
        assert self.paid is not None  # noqa: S101 - asked before
        await self.paid.reprice(needed)
        self.head = self._payer + self.paid.allowance.head

    def sent(self, number: int, attempt: Attempt, mark: bytes = b"") -> None:
        """Writes down that an attempt begins, with what it is charged if it is lost: its prompt.

        Args:
            number: Which try.
            attempt: Where it goes.
            mark: What the call is for; see `Trail.mark`.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE, it cannot be written down: the attempt must not be made;
                REASON_NO_DEPLOYMENT, its price is unknown.
        """
        if self.paid is None:
            return
        if not attempt.HasField("price"):
            payable(self.verdict, [attempt])
        head = self.head + mark
        slot = self.house.checkpoints.begin(head, self._request_id, number, attempt, self._tokens)
        self._tried[number] = attempt
        if slot is not None:
            self._slots += (slot,)

    def close(self, rows: Sequence[ChargeRow], usage: Usage | None) -> None:
        """Settles the call, once: its charges, its money, its shares.

        Args:
            rows: What its attempts are charged; see `charging.charges`.
            usage: What it used in all; None when nothing, or nothing known.
        """
        if self.over:
            self.house.checkpoints.tidy()
            return
        self.over = True
        if self.place is not None:  # first of all: what fails below must not keep others out
            self.place.leave()
        if self.taken:
            used = 0 if usage is None else tokens_in(usage)
            for share, taken in self.taken:
                share.settle(taken, used if share.limit.kind == LIMIT_KIND_TOKENS else taken)
        if self.paid is not None:
            self._learn(rows)
            self._keep(rows)
            self.paid.settle(self._sum(rows))
        self.house.checkpoints.tidy()

    @property
    def multiplier(self) -> int:
        """What the call costs its caller is what it costs times this, in millionths."""
        return self.verdict.multiplier_millionths or ONCE

    def _sum(self, rows: Iterable[ChargeRow]) -> int:
        multiplier = self.multiplier
        return sum([multiplied(row.cost or 0, multiplier) for row in rows])

    def figures(self, usage: Usage | None = None) -> list[Figure]:
        """How the caller's own limits stand: of each kind the one that is nearest to its end.

        Args:
            usage: What the call used, where it is known and not settled yet.
        """
        if not self.taken:
            return []
        nearest: dict[str, Figure] = {}
        now = self.house.shares.now
        for share, taken in self.taken:
            if share.limit.scope == INSTALLATION:  # what all callers do together is nobody's business
                continue
            if usage is None or self.over or share.limit.kind != LIMIT_KIND_TOKENS:
                figure = share.figure(now)
            else:
                figure = share.figure(now, taken, tokens_in(usage))
            if figure.kind not in nearest or figure.remaining < nearest[figure.kind].remaining:
                nearest[figure.kind] = figure
        return list(nearest.values())

    def _keep(self, rows: Sequence[ChargeRow]) -> None:
        """Writes the charges down, those of attempts that cost nothing as well, and leaves the slots of all of them."""
        settler, written = self.house.settler, True
        for row in self._unsettled(rows):
            origin = origin_of(self._tried.get(row.attempt, _NOWHERE))
            payload = self.head + settler.heads.charge(self._request_id, origin, row)
            written = settler.keep(payload) and written
        if self._slots:
            self.house.checkpoints.leave(self._slots, written=written)
            self._slots = ()

    def _learn(self, rows: Iterable[ChargeRow]) -> None:
        """Notes how long vendors found a prompt that was estimated."""
        for row in rows:
            attempt, usage = self._tried.get(row.attempt), row.usage
            if attempt is not None and self._tokens and not usage.estimated:
                counted = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
                self.house.margins.saw(attempt.deployment, self._tokens, counted)

    def _unsettled(self, rows: Sequence[ChargeRow]) -> Sequence[ChargeRow]:
        if len(rows) == len(self._tried) == 1 and not self._settled and rows[0].attempt in self._tried:
            new = rows  # as nearly every call is
        else:
            charged = {row.attempt for row in rows}
            nothing = [
                ChargeRow(number, _NOTHING, 0, UNCHARGED_RULE) for number in self._tried if number not in charged
            ]
            new = [row for row in (*rows, *nothing) if row.attempt not in self._settled]
        self._settled |= {row.attempt for row in new}
        return new


def figures_of_refusal(error: MeshError) -> list[Figure]:
    """How the limit stands for which a call was refused; nothing for other errors, and when it is not the caller's."""
    metadata = error.metadata
    if error.reason != pb.REASON_RATE_LIMITED or "amount" not in metadata or metadata["scope"] == INSTALLATION:
        return []
    return [Figure(metadata["limit"], int(metadata["amount"]), int(metadata["remaining"]), float(metadata["reset"]))]
