"""What a call may take: its shares of limits and its money, from the door to the ledger.

`Allowances.admit` counts the call; `Admission.hold` holds the most it can cost once the plan is known; `sent` writes
down that an attempt begins; `close` settles all of it. A key without limits and budgets passes through for the price of
two looks at its verdict.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from google.protobuf.timestamp_pb2 import Timestamp

from polyroute.api.auth.v1.auth_pb2 import Caller, Verdict
from polyroute.api.auth.v1.ledger_pb2 import Settlement
from polyroute.api.auth.v1.limits_pb2 import LIMIT_KIND_TOKENS
from polyroute.api.chat.v1.chat_pb2 import (
    OPERATION_CHAT,
    OPERATION_COMPLETION,
    OPERATION_IMAGE,
    OPERATION_RELAY,
    OPERATION_SPEECH,
    OPERATION_TRANSCRIPTION,
    RequestFacts,
    Usage,
)
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.router.v1.router_pb2 import Attempt, Price
from polyroute.edge.charging import ChargeRow, total
from polyroute.edge.purse import Hold, Purses
from polyroute.edge.settler import Settler
from polyroute.edge.shares import Figure, Shares, Taken
from polyroute.mesh.errors import MeshError

TICK_SECONDS: Final = 0.5
LOST_SECONDS: Final = 60.0  # after a call's deadline, when it counts as lost
ANSWER_TOKENS: Final = 16_384  # held for an answer without a bound; what is not affordable is cut off
COUNTED_ANSWER: Final = 512  # counted of such an answer against limits of tokens, until it is known
LEAST_ANSWER: Final = 16  # an answer that is cut shorter than this is not worth asking for
MILLION: Final = 1_000_000
AUDIO_MILLISECONDS: Final = 60_000  # held for sound, whose length is known when it is over
CHARACTERS_PER_TOKEN: Final = 4
CALLERS_KEPT: Final = 100_000
UNCHARGED: Final = "uncharged/1"  # of attempts that cost nothing

_ANSWERS: Final = frozenset({OPERATION_CHAT, OPERATION_COMPLETION, OPERATION_RELAY})
_SOUNDS: Final = frozenset({OPERATION_SPEECH, OPERATION_TRANSCRIPTION})
_HEADERS: Final = {"requests": b"requests", "tokens": b"tokens"}


@dataclass(frozen=True, slots=True)
class Bill:
    """What a call can cost at the dearest of its attempts, nano-USD.

    Attributes:
        prompt: Of the prompt, and of the call itself.
        token: Of a million tokens of the answer.
        answer: Tokens of the answer.
        bounded: The caller gave that number.
    """

    prompt: int
    token: int
    answer: int
    bounded: bool

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
        return self.prompt + -(-tokens * self.token // MILLION)

    def affordable(self, amount: int) -> int:
        """The longest answer that `amount` pays."""
        return self.answer if not self.token else min(self.answer, (amount - self.prompt) * MILLION // self.token)


def bill_of(attempts: Iterable[Attempt], facts: RequestFacts) -> Bill:
    """The most that a call can cost by its plan, whose prices are known."""
    choices = max(1, facts.choices)
    bounded = facts.HasField("max_output_tokens") or facts.operation not in _ANSWERS
    answer = facts.max_output_tokens if bounded else ANSWER_TOKENS
    prompt = token = 0
    for attempt in attempts:
        prompt = max(prompt, _prompt_of(attempt.price, facts.input_tokens_estimate) + _beside(attempt.price, facts))
        token = max(token, attempt.price.output, attempt.price.reasoning)
    return Bill(prompt, token * choices, answer, bounded)


def payable(verdict: Verdict, attempts: Iterable[Attempt]) -> list[Attempt]:
    """The attempts that a key may make: with a hard budget, those whose price is known.

    Raises:
        MeshError: REASON_NO_DEPLOYMENT, there is none: what cannot be counted cannot be bounded.
    """
    listed = list(attempts)
    if not verdict.purse:
        return listed
    found = [attempt for attempt in listed if attempt.HasField("price")]
    if not found:
        raise MeshError(
            pb.REASON_NO_DEPLOYMENT,
            "this key has a budget, and no price of this model is known",
            metadata={"model": listed[0].model if listed else "", "cause": "model_price_unknown"},
        )
    return found


def _prompt_of(price: Price, tokens: int) -> int:
    dearest = max(price.input, price.cache_read, price.cache_write)
    return -(-(tokens * dearest + price.request) // MILLION)


def _beside(price: Price, facts: RequestFacts) -> int:
    """What units beside the tokens are likely to cost: as many as the request can tell, and one of each other kind."""
    if not price.other:
        return 0
    tokens = facts.input_tokens_estimate
    units = {
        "images": max(1, facts.choices) if facts.operation == OPERATION_IMAGE else 0,
        "audio_milliseconds": AUDIO_MILLISECONDS if facts.operation in _SOUNDS else 0,
        "input_characters": tokens * CHARACTERS_PER_TOKEN,
    }
    likely = (rate * units.get(name, tokens if name.endswith("tokens") else 1) for name, rate in price.other.items())
    return -(-sum(likely) // MILLION)


def tokens_of(facts: RequestFacts) -> int:
    """What a call counts against limits of tokens before its answer is known."""
    answer = 0
    if facts.HasField("max_output_tokens"):
        answer = facts.max_output_tokens
    elif facts.operation in _ANSWERS:
        answer = COUNTED_ANSWER
    return max(1, facts.input_tokens_estimate + answer * max(1, facts.choices))


@dataclass(slots=True)
class Admission:
    """One call that was let in.

    Attributes:
        taken: Shares of limits that it uses.
        tokens: Counted against limits of tokens so far.
        paid: What is held for it; None when nothing has to be.
    """

    house: "Allowances"
    verdict: Verdict
    taken: Taken = field(default_factory=list)
    tokens: int = 0
    paid: Hold | None = None
    over: bool = False
    _request_id: str = ""
    _caller: bytes = b""  # who pays, as every settlement of the call says it
    _lost_at: Timestamp | None = None
    _facts: RequestFacts | None = None
    _bound: int = 0  # the most that one attempt can cost
    _tried: dict[int, Attempt] = field(default_factory=dict)

    async def hold(
        self, request_id: str, attempts: Sequence[Attempt], facts: RequestFacts, deadline_seconds: float
    ) -> int | None:
        """Holds the most that the call can cost.

        Args:
            request_id: The call.
            attempts: What may be tried.
            facts: What was read from the request.
            deadline_seconds: Until the call must be over.

        Returns:
            The most tokens that each answer may have, where the caller gave no bound and somebody has to pay: the door
            must ask the vendor for no more. None when there is nothing to add.

        Raises:
            MeshError: REASON_BUDGET_EXHAUSTED; REASON_NO_DEPLOYMENT, no price is known; REASON_SERVICE_UNAVAILABLE.
        """
        if not self.verdict.purse:
            return None
        bill = bill_of(payable(self.verdict, attempts), facts)
        purse = self.house.purses.of(self.verdict.purse, self.verdict.caller)
        self.paid = await purse.hold(bill.needed, bill.least)
        self._request_id, self._facts, self._bound = request_id, facts, self.paid.amount
        self._caller = self.house.caller(self.verdict.caller)
        self._lost_at = self.house.moment(deadline_seconds + LOST_SECONDS)
        return None if bill.bounded else bill.affordable(self.paid.amount)

    async def reprice(self, charged: Iterable[ChargeRow]) -> None:
        """Holds what earlier attempts are charged as well, before another one is made.

        Raises:
            MeshError: REASON_BUDGET_EXHAUSTED, another attempt cannot be paid.
        """
        if self.paid is not None and (spent := total(charged) or 0):
            await self.paid.reprice(spent + self._bound)

    def sent(self, number: int, attempt: Attempt) -> None:
        """Writes down that an attempt begins, with what it is charged if it is lost: its prompt.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE, it cannot be written down: the attempt must not be made;
                REASON_NO_DEPLOYMENT, its price is unknown.
        """
        if self.paid is None or self._facts is None:
            return
        if not attempt.HasField("price"):
            payable(self.verdict, [attempt])
        self._tried[number] = attempt
        self.checkpoint(number, _prompt_of(attempt.price, self._facts.input_tokens_estimate))

    def checkpoint(self, number: int, cost: int) -> None:
        """Writes down what an attempt has cost so far, nano-USD; for calls that last, every few seconds.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE; the last checkpoint stands.
        """
        if self.paid is None:
            return
        settlement = Settlement(
            request_id=self._request_id, attempt=number, cost_nanos=cost, checkpoint=True, expire_time=self._lost_at
        )
        self.house.settler.intend(self._caller + self.paid.allowance.head, settlement)

    def close(self, rows: Sequence[ChargeRow], usage: Usage | None) -> None:
        """Settles the call, once: its charges, its money, its shares.

        Args:
            rows: What its attempts are charged; see `charging.charges`.
            usage: What it used in all; None when nothing, or nothing known.
        """
        if self.over:
            return
        self.over = True
        used = 0 if usage is None else _tokens_in(usage)
        for share, taken in self.taken:
            share.settle(taken, used if share.limit.kind == LIMIT_KIND_TOKENS else taken)
        if self.paid is not None:
            self.house.settler.keep(self._caller + self.paid.allowance.head, self._settlements(rows))
            self.paid.settle(sum(row.cost or 0 for row in rows))

    def figures(self) -> list[Figure]:
        """How the limits of the call stand: of each kind the one that is nearest to its end."""
        nearest: dict[str, Figure] = {}
        for share, _ in self.taken:
            figure = share.figure()
            if figure.kind not in nearest or figure.remaining < nearest[figure.kind].remaining:
                nearest[figure.kind] = figure
        return list(nearest.values())

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`x-ratelimit-*` for the answer: limit, remaining, and seconds until reset, of requests and of tokens."""
        return headers_of(self.figures())

    def _settlements(self, rows: Sequence[ChargeRow]) -> list[Settlement]:
        """The charges; attempts that were written down and cost nothing are settled as well."""
        found = [self._settlement(row.attempt, row.cost, row.usage, row.rule) for row in rows]
        charged = {row.attempt for row in rows}
        return found + [self._settlement(number, 0, None, UNCHARGED) for number in self._tried if number not in charged]

    def _settlement(self, number: int, cost: int | None, usage: Usage | None, rule: str) -> Settlement:
        attempt = self._tried.get(number)
        settlement = Settlement(request_id=self._request_id, attempt=number, cost_nanos=cost, rule=rule)
        if usage is not None:
            settlement.usage.CopyFrom(usage)
        if attempt is not None:
            settlement.price_version = attempt.price.version
            settlement.deployment = attempt.deployment
        return settlement


class Allowances:
    """Limits and money at this edge; `run` must be running.

    Args:
        auth: AuthService.
        ledger: LedgerService.
        settler: Keeps charges.
        clock: Seconds, monotonic.
        wall: Seconds since the Unix epoch.
        timeout: Seconds to wait for auth.
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
    ) -> None:
        holder = uuid4().hex
        self.settler = settler
        self.shares = Shares(auth, holder, clock, timeout)
        self.purses = Purses(ledger, holder, clock, timeout)
        self._wall = wall
        self._recalled = asyncio.Event()
        self._callers: dict[str, bytes] = {}
        self._moment = Timestamp()  # asked for by many calls of the same second
        self._free = Admission(self, Verdict(), over=True)  # of every call that nothing bounds

    async def admit(self, verdict: Verdict, facts: RequestFacts) -> Admission:
        """Counts a call against the limits of its key.

        Raises:
            MeshError: REASON_RATE_LIMITED; REASON_USAGE_UNAVAILABLE, its charge could not be kept.
        """
        limited, purse = bool(verdict.limits), verdict.purse
        if not limited and not purse:
            return self._free
        admission = Admission(self, verdict)
        if purse:
            self.settler.check()
        if limited:
            tokens = tokens_of(facts)
            taken = self.shares.of(verdict, facts.model, tokens)
            await self.shares.take(taken)
            admission.taken, admission.tokens = taken, tokens
        return admission

    def recall(self, purses: Iterable[str]) -> None:
        """Gives back at once what no call needs of some purses; for `Authorizer`."""
        self.purses.recall(purses)
        self._recalled.set()

    async def run(self) -> None:
        """Renews shares and gives money back, for ever."""
        while True:
            self._recalled.clear()
            self.purses.tidy()
            await self.purses.give_back()
            await self.shares.renew()
            await self._rest()

    async def close(self) -> None:
        """Gives all money back that no call needs; for the end of the process."""
        self.purses.recall_all()
        await self.purses.give_back()

    def caller(self, caller: Caller) -> bytes:
        """The part of a settlement that says who pays, as bytes."""
        head = self._callers.get(caller.key_id)
        if head is None:
            if len(self._callers) >= CALLERS_KEPT:
                self._callers.clear()
            head = self._callers[caller.key_id] = Settlement(caller=caller).SerializeToString()
        return head

    def moment(self, seconds: float) -> Timestamp:
        """So many seconds from now, to the next second."""
        at = math.ceil(self._wall() + seconds)
        if self._moment.seconds != at:
            self._moment = Timestamp(seconds=at)
        return self._moment

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(TICK_SECONDS):
                await self._recalled.wait()
        except TimeoutError:
            return


def headers_of(figures: Iterable[Figure]) -> list[tuple[bytes, bytes]]:
    """Figures of requests and tokens as the headers that clients know."""
    found: list[tuple[bytes, bytes]] = []
    for figure in figures:
        kind = _HEADERS.get(figure.kind)
        if kind is not None:
            found.append((b"x-ratelimit-limit-" + kind, b"%d" % figure.limit))
            found.append((b"x-ratelimit-remaining-" + kind, b"%d" % figure.remaining))
            found.append((b"x-ratelimit-reset-" + kind, b"%.3fs" % figure.reset))
    return found


def headers_of_refusal(error: MeshError) -> list[tuple[bytes, bytes]]:
    """The same headers for a call that was refused."""
    metadata = error.metadata
    if error.reason != pb.REASON_RATE_LIMITED or "amount" not in metadata:
        return []
    figure = Figure(metadata["limit"], int(metadata["amount"]), int(metadata["remaining"]), float(metadata["reset"]))
    return headers_of([figure])


def _tokens_in(usage: Usage) -> int:
    return (
        usage.input_tokens
        + usage.cache_read_tokens
        + usage.cache_write_tokens
        + usage.output_tokens
        + usage.reasoning_tokens
    )
