"""What a call may take: its place, its shares of limits and its money, from the door to the ledger.

`Allowances.admit` lets the call in and counts it; `Admission.hold` holds the most it can cost once the plan is known;
`sent` writes down that an attempt begins; `close` settles all of it. A key without limits and budgets passes through
for the price of a few looks at its verdict.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from uuid import uuid4

from polyroute.api.auth.v1.auth_pb2 import Caller, Verdict
from polyroute.api.auth.v1.ledger_pb2 import Settlement
from polyroute.api.auth.v1.limits_pb2 import LIMIT_KIND_TOKENS
from polyroute.api.chat.v1.chat_pb2 import (
    OPERATION_IMAGE,
    OPERATION_SPEECH,
    OPERATION_TRANSCRIPTION,
    RequestFacts,
    Usage,
)
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.router.v1.router_pb2 import Attempt, Price
from polyroute.edge.capacity import Capacity
from polyroute.edge.charging import ChargeRow, multiplied
from polyroute.edge.checkpoints import Checkpoints
from polyroute.edge.common import CommonLimits
from polyroute.edge.heads import origin_of
from polyroute.edge.intents import Intents
from polyroute.edge.purse import MOST, Hold, Purses
from polyroute.edge.settler import UNCHARGED_RULE as UNCHARGED
from polyroute.edge.settler import Settler
from polyroute.edge.shares import INSTALLATION, Figure, Shares, Taken
from polyroute.edge.sizes import ANSWERS, tokens_in, tokens_of
from polyroute.edge.spending import narrow, payable, purse_of
from polyroute.edge.turnstile import Pass, Turnstile, criticality_of
from polyroute.mesh.errors import MeshError
from polyroute.mesh.pricing import within_reach

TICK_SECONDS: Final = 0.5
ANSWER_TOKENS: Final = 16_384  # held for an answer without a bound; what is not affordable is cut off
LEAST_ANSWER: Final = 16  # an answer that is cut shorter than this is not worth asking for
MILLION: Final = 1_000_000
AUDIO_MILLISECONDS: Final = 60_000  # held for sound, whose length is known when it is over
CHARACTERS_PER_TOKEN: Final = 4

_NOWHERE: Final = Attempt()
_NOTHING: Final = Usage()
_SOUNDS: Final = frozenset({OPERATION_SPEECH, OPERATION_TRANSCRIPTION})


class Bill(NamedTuple):
    """What a call can cost at the dearest of its attempts, nano-USD.

    Attributes:
        prompt: Of the prompt, and of the call itself.
        token: Of a million tokens of the answer.
        answer: Tokens of the answer.
        bounded: The caller gave that number.
        multiplier: What the call costs its caller is what it costs times this, in millionths.
    """

    prompt: int
    token: int
    answer: int
    bounded: bool
    multiplier: int = MILLION

    @property
    def needed(self) -> int:
        """The most that the call can cost."""
        return self.with_answer(self.answer)

    @property
    def least(self) -> int:
        """What it must be able to cost, to be worth making."""
        return self.needed if self.bounded else self.with_answer(min(self.answer, LEAST_ANSWER))

    def with_answer(self, tokens: int) -> int:
        """The cost with so long an answer."""
        asked = self.prompt - (-tokens * self.token // MILLION)
        if self.multiplier != MILLION:
            asked = -(-asked * self.multiplier // MILLION)
        return min(MOST, asked)

    def affordable(self, amount: int) -> int:
        """The longest answer that `amount` pays."""
        if not self.token or not self.multiplier:
            return self.answer
        asked = amount * MILLION // self.multiplier
        return min(self.answer, (asked - self.prompt) * MILLION // self.token)


def bill_of(attempts: Iterable[Attempt], facts: RequestFacts, multiplier: int = MILLION) -> Bill:
    """The most that a call can cost by its plan, whose prices are known."""
    choices = facts.choices or 1
    bounded = facts.HasField("max_output_tokens") or facts.operation not in ANSWERS
    answer = facts.max_output_tokens if bounded else ANSWER_TOKENS
    prompt = token = 0
    tokens = facts.input_tokens_estimate
    for attempt in attempts:
        price = attempt.price
        # a prompt may turn out longer than was estimated, and so be charged by the next tier
        for one in within_reach(price, tokens * 5 // 4) if price.tiers else (price,):
            asked = _prompt_of(one, tokens)
            if one.other:
                asked += _beside(one, facts)
            if asked > prompt:
                prompt = asked
            if one.output > token:
                token = one.output
            if one.reasoning > token:
                token = one.reasoning
    return Bill(prompt, token * choices, answer, bounded, multiplier)


def _prompt_of(price: Price, tokens: int) -> int:
    dearest = max(price.input, price.cache_read, price.cache_write)
    return -(-(tokens * dearest + price.request) // MILLION)


def _beside(price: Price, facts: RequestFacts) -> int:
    """What units beside the tokens are likely to cost: as many as the request can tell, and one of each other kind."""
    tokens = facts.input_tokens_estimate
    units = {
        "images": max(1, facts.choices) if facts.operation == OPERATION_IMAGE else 0,
        "audio_milliseconds": AUDIO_MILLISECONDS if facts.operation in _SOUNDS else 0,
        "input_characters": tokens * CHARACTERS_PER_TOKEN,
    }
    likely = (rate * units.get(name, tokens if name.endswith("tokens") else 1) for name, rate in price.other.items())
    return -(-sum(likely) // MILLION)


@dataclass(slots=True)
class Admission:
    """One call that was let in.

    Attributes:
        purse: Whose money is held for it; empty where nobody's is.
        taken: Shares of limits that it uses.
        tokens: Counted against limits of tokens so far.
        paid: What is held for it; None when nothing has to be.
        place: Its place among the calls under way; None where these are not bounded.
    """

    house: "Allowances"
    verdict: Verdict
    purse: str = ""
    taken: Taken = field(default_factory=list)
    tokens: int = 0
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
                key may use only what is free, and nothing is; REASON_SERVICE_UNAVAILABLE.
        """
        able = payable(self.verdict, attempts)
        if not self.purse:
            return None
        caller = self.verdict.caller
        bill = bill_of(able, facts, self.multiplier)
        purse = self.house.purses.of(self.purse, caller)
        needed = bill.needed
        paid = self.paid = purse.take(needed) or await purse.hold(needed, bill.least)
        self._request_id, self._tokens, self._bound = request_id, facts.input_tokens_estimate, paid.amount
        self._payer = self.house.settler.heads.caller(caller)
        if self.multiplier != MILLION:  # what the hold was worked out with is what the charge is worked out with
            self._payer += Settlement(multiplier_millionths=self.multiplier).SerializeToString()
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

    def sent(self, number: int, attempt: Attempt) -> None:
        """Writes down that an attempt begins, with what it is charged if it is lost: its prompt.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE, it cannot be written down: the attempt must not be made;
                REASON_NO_DEPLOYMENT, its price is unknown.
        """
        if self.paid is None:
            return
        if not attempt.HasField("price"):
            payable(self.verdict, [attempt])
        slot = self.house.checkpoints.begin(self.head, self._request_id, number, attempt, self._tokens)
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
            self._keep(rows)
            self.paid.settle(self._sum(rows))
        self.house.checkpoints.tidy()

    @property
    def multiplier(self) -> int:
        """What the call costs its caller is what it costs times this, in millionths."""
        return self.verdict.multiplier_millionths or MILLION

    def _sum(self, rows: Iterable[ChargeRow]) -> int:
        multiplier = self.multiplier
        return sum([multiplied(row.cost or 0, multiplier) for row in rows])

    def figures(self) -> list[Figure]:
        """How the caller's own limits stand: of each kind the one that is nearest to its end."""
        nearest: dict[str, Figure] = {}
        for share, _ in self.taken:
            if share.limit.scope == INSTALLATION:  # what all callers do together is nobody's business
                continue
            figure = share.figure()
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

    def _unsettled(self, rows: Sequence[ChargeRow]) -> Sequence[ChargeRow]:
        if len(rows) == len(self._tried) == 1 and not self._settled and rows[0].attempt in self._tried:
            new = rows  # as nearly every call is
        else:
            charged = {row.attempt for row in rows}
            nothing = [ChargeRow(number, _NOTHING, 0, UNCHARGED) for number in self._tried if number not in charged]
            new = [row for row in (*rows, *nothing) if row.attempt not in self._settled]
        self._settled |= {row.attempt for row in new}
        return new


class Allowances:
    """Limits and money at this edge; `run` must be running.

    Args:
        auth: AuthService.
        ledger: LedgerService.
        settler: Keeps charges.
        clock: Seconds, monotonic.
        wall: Seconds since the Unix epoch.
        timeout: Seconds to wait for auth.
        turnstile: Bounds the calls under way; None means that nothing does.
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
        self.turnstile = turnstile
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
        if not limited and not verdict.purse and self.turnstile is None and not narrow(verdict):
            return self._free
        admission = Admission(self, verdict, purse_of(verdict))
        if self.turnstile is not None:
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
            tokens = tokens_of(facts)
            taken = self.shares.of(verdict, facts.model, tokens)
            await self.shares.take(taken)
            admission.taken, admission.tokens = taken, tokens

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

    def caller(self, caller: Caller) -> bytes:
        """The part of a settlement that says who pays, as bytes."""
        return self.settler.heads.caller(caller)

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(TICK_SECONDS):
                await self._recalled.wait()
        except TimeoutError:
            return


def figures_of_refusal(error: MeshError) -> list[Figure]:
    """How the limit stands for which a call was refused; nothing for other errors, and when it is not the caller's."""
    metadata = error.metadata
    if error.reason != pb.REASON_RATE_LIMITED or "amount" not in metadata or metadata["scope"] == INSTALLATION:
        return []
    return [Figure(metadata["limit"], int(metadata["amount"]), int(metadata["remaining"]), float(metadata["reset"]))]
