"""What an attempt is charged: one table, by how the attempt ended and what its vendor is known to bill.

Three rules stand above the table. What the vendor reports is charged as reported, however the attempt ended. What
nobody reported is an estimate, and is marked as one, so that the vendor's own figure can correct it. An error is never
charged: neither its text, nor a prompt that was answered with nothing but an error, unless the vendor reports usage or
says that it bills for exactly this.

A change of the table is a new version; the version stands on every charge.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, Self

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.api.router.v1.router_pb2 import (
    BILLED_PART_DELIVERED,
    BILLED_PART_NOTHING,
    BILLED_PART_PROMPT,
    BILLED_PART_WHOLE,
    BilledPart,
    Billing,
    Price,
)
from polyroute.mesh.pricing import in_force

MILLION: Final = 1_000_000
VERSION: Final = 2
ONCE: Final = 1_000_000  # a multiplier that changes nothing, in millionths
QUARANTINED: Final = f"quarantined/{VERSION}"  # the rule of figures that cannot be true
MOST_COUNTED: Final = 1 << 40  # tokens, or other units, of one attempt
MOST_COST: Final = 10**15  # nano-USD of one attempt: a million USD

COUNTS: Final = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "images",
    "audio_milliseconds",
)


class Ending(Enum):
    """How an attempt ended; `rule` names the line of the table, such as `cancelled/2`."""

    rule: str

    def __new__(cls, name: str) -> Self:
        """A member with its rule, which is asked for on the path of every call."""
        member = object.__new__(cls)
        member._value_ = name
        member.rule = f"{name}/{VERSION}"
        return member

    UNSENT = "unsent"
    """Nothing reached the vendor."""
    COMPLETED = "completed"
    """The whole answer came."""
    CANCELLED = "cancelled"
    """The caller went away, or the gateway stopped."""
    BROKEN = "broken"
    """It broke, or stalled, after content had come."""
    SILENT = "silent"
    """It was sent, and nothing came back: the vendor may have worked on it."""
    REFUSED = "refused"
    """The vendor did not answer the prompt, for what it says."""
    FAILED = "failed"
    """The vendor said no, or something that is no answer."""


class Part(Enum):
    """What of a call is charged when the vendor reports nothing."""

    NOTHING = BILLED_PART_NOTHING
    PROMPT = BILLED_PART_PROMPT
    DELIVERED = BILLED_PART_DELIVERED
    """The prompt and what was sent: the vendor stops when the connection does."""
    WHOLE = BILLED_PART_WHOLE
    """The prompt and the whole answer: the vendor goes on by itself."""


@dataclass(frozen=True, slots=True)
class Bills:
    """What a vendor bills of answers that did not come whole.

    The defaults are for vendors of which nothing is known: what was sent, but nothing where nothing was.

    Attributes:
        disconnect: The connection was closed.
        silence: Nothing came back.
        failure: It failed by itself after a part of the answer.
        refusal: The prompt was refused for what it says.
    """

    disconnect: Part = Part.DELIVERED
    silence: Part = Part.NOTHING
    failure: Part = Part.DELIVERED
    refusal: Part = Part.NOTHING


USUAL: Final = Bills()
RULES: Final[Mapping[Ending, Callable[[Bills], Part]]] = {
    Ending.UNSENT: lambda _: Part.NOTHING,
    Ending.COMPLETED: lambda _: Part.DELIVERED,
    Ending.CANCELLED: lambda bills: bills.disconnect,
    Ending.BROKEN: lambda bills: bills.failure,
    Ending.SILENT: lambda bills: bills.silence,
    Ending.REFUSED: lambda bills: bills.refusal,
    Ending.FAILED: lambda _: Part.NOTHING,
}
# Before any content: what a fault says of whether the vendor had the request.
_ENDINGS: Final[Mapping[Fault.ValueType, Ending]] = {
    pb.FAULT_CONNECT: Ending.UNSENT,
    pb.FAULT_UNSUPPORTED: Ending.UNSENT,
    pb.FAULT_AMBIGUOUS: Ending.SILENT,
    pb.FAULT_STALL: Ending.SILENT,
    pb.FAULT_TRUNCATED: Ending.SILENT,
    pb.FAULT_FILTER: Ending.REFUSED,
}


class Attempted(NamedTuple):
    """One attempt that is over.

    Attributes:
        number: Which try; counts from 1.
        ending: How it ended.
        reported: What the vendor said it used; None when it said nothing.
        prompt_tokens: Estimate of the prompt.
        delivered_tokens: Tokens of the answer that came.
        most_tokens: Bound of the answer; 0 when there is none.
        bills: What the vendor bills for an answer that did not come whole.
    """

    number: int
    ending: Ending
    reported: Usage | None = None
    prompt_tokens: int = 0
    delivered_tokens: int = 0
    most_tokens: int = 0
    bills: Bills = USUAL


class ChargeRow(NamedTuple):
    """What an attempt is charged.

    Attributes:
        attempt: Which try.
        usage: What is charged for; `estimated` unless the vendor reported it.
        cost: What the vendor asks, nano-USD; None when the price, or the usage, is unknown.
        rule: The rule and its version, such as `cancelled/2`.
    """

    attempt: int
    usage: Usage
    cost: int | None
    rule: str


Priced = Callable[[Usage], int]


def ending_of(fault: Fault.ValueType, *, content: bool) -> Ending:
    """How an attempt ended that failed with `fault`, after content or before any."""
    return Ending.BROKEN if content else _ENDINGS.get(fault, Ending.FAILED)


def charge(attempted: Attempted, priced: Priced | None) -> ChargeRow | None:
    """What an attempt is charged; None when nothing is.

    Args:
        attempted: How it ended and what it used.
        priced: What usage costs at its deployment, nano-USD; None when the price is unknown.
    """
    usage = attempted.reported
    if usage is not None and not plausible(usage):
        # a vendor's figures that cannot be true are nobody's debt: kept without an amount, for a person to look at
        return ChargeRow(attempted.number, usage, None, QUARANTINED)
    if usage is None:
        usage = _estimated(attempted)
    if usage is None:
        return None
    cost = None if priced is None else priced(usage)
    if cost is not None and not 0 <= cost <= MOST_COST:
        return ChargeRow(attempted.number, usage, None, QUARANTINED)
    return ChargeRow(attempted.number, usage, cost, attempted.ending.rule)


def plausible(usage: Usage) -> bool:
    """Whether figures can be true: none is below nothing, and none is more than anybody ever counted."""
    return (  # each by its name and not in a loop: this is on the path of every call
        0 <= usage.input_tokens <= MOST_COUNTED
        and 0 <= usage.cache_read_tokens <= MOST_COUNTED
        and 0 <= usage.cache_write_tokens <= MOST_COUNTED
        and 0 <= usage.output_tokens <= MOST_COUNTED
        and 0 <= usage.reasoning_tokens <= MOST_COUNTED
        and 0 <= usage.images <= MOST_COUNTED
        and 0 <= usage.audio_milliseconds <= MOST_COUNTED
        and (not usage.other or all(0 <= count <= MOST_COUNTED for count in usage.other.values()))
    )


def charges(attempts: Iterable[tuple[Attempted, Priced | None]]) -> list[ChargeRow]:
    """What all attempts of a call are charged, each a row of its own."""
    return [row for attempted, priced in attempts if (row := charge(attempted, priced)) is not None]


def total(rows: Iterable[ChargeRow]) -> int | None:
    """What a call costs, nano-USD; None when the cost of one of its attempts is unknown."""
    costs = [row.cost for row in rows]
    return None if None in costs else sum(cost or 0 for cost in costs)


def plainly(usage: Usage, price: Price) -> int:
    """What tokens cost by a price that has neither tiers nor other units, nano-USD, rounded to the nearest."""
    total = usage.input_tokens * price.input + usage.output_tokens * price.output + price.request
    if read := usage.cache_read_tokens:
        total += read * (price.cache_read if price.HasField("cache_read") else price.input)
    if write := usage.cache_write_tokens:
        total += write * (price.cache_write if price.HasField("cache_write") else price.input)
    if reasoning := usage.reasoning_tokens:
        total += reasoning * (price.reasoning if price.HasField("reasoning") else price.output)
    return (total + MILLION // 2) // MILLION


def prompt_cost(price: Price, tokens: int) -> int:
    """What a prompt of so many tokens costs when nothing is answered, nano-USD, rounded to the nearest."""
    if price.tiers:
        price = in_force(price, tokens, 0)
    return (tokens * price.input + price.request + MILLION // 2) // MILLION


def multiplied(cost: int, millionths: int) -> int:
    """What is charged for a cost, nano-USD: to the nearest, a half upwards, as the ledger does it."""
    return cost if millionths == ONCE else (cost * millionths + ONCE // 2) // ONCE


def bills_of(billing: Billing) -> Bills:
    """What a vendor is known to bill; what nobody said is as usual."""
    return Bills(
        _part(billing.disconnect, USUAL.disconnect),
        _part(billing.silence, USUAL.silence),
        _part(billing.failure, USUAL.failure),
        _part(billing.refusal, USUAL.refusal),
    )


def _part(said: BilledPart.ValueType, usual: Part) -> Part:
    return Part(said) if said else usual


def _estimated(attempted: Attempted) -> Usage | None:
    part = RULES[attempted.ending](attempted.bills)
    if part is Part.NOTHING:
        return None
    answer = 0 if part is Part.PROMPT else attempted.delivered_tokens
    if part is Part.WHOLE:
        answer = max(answer, attempted.most_tokens)
    return Usage(input_tokens=attempted.prompt_tokens, output_tokens=answer, estimated=True)
