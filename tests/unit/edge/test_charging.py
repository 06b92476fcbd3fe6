"""What attempts are charged: the golden cases of version 2 of the rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.api.router.v1.router_pb2 import BILLED_PART_PROMPT, BILLED_PART_WHOLE, Billing
from polyroute.edge.charging import (
    USUAL,
    VERSION,
    Attempted,
    Bills,
    ChargeRow,
    Ending,
    Part,
    bills_of,
    charge,
    charges,
    ending_of,
    multiplied,
    total,
)

REPORTED = Usage(input_tokens=10, cache_read_tokens=4, output_tokens=6, reasoning_tokens=2)


def priced(usage: Usage) -> int:
    """Prompts cost 1, answers 100, whatever is read from a cache nothing."""
    return usage.input_tokens + 100 * (usage.output_tokens + usage.reasoning_tokens)


def attempted(ending: Ending, reported: Usage | None = None, bills: Bills = USUAL) -> Attempted:
    """A prompt of 50 tokens, 7 tokens of the answer, which may have 20."""
    return Attempted(1, ending, reported, prompt_tokens=50, delivered_tokens=7, most_tokens=20, bills=bills)


NOTHING = Bills(Part.NOTHING, Part.NOTHING, Part.NOTHING, Part.NOTHING)
PROMPT = Bills(Part.PROMPT, Part.PROMPT, Part.PROMPT, Part.PROMPT)
WHOLE = Bills(Part.WHOLE, Part.WHOLE, Part.WHOLE, Part.WHOLE)

# ending, what the vendor reports, what it bills -> what is charged, whether that is an estimate
GOLDEN = [
    (Ending.COMPLETED, REPORTED, USUAL, 810, False),
    (Ending.COMPLETED, None, USUAL, 750, True),
    (Ending.COMPLETED, None, NOTHING, 750, True),
    (Ending.CANCELLED, REPORTED, USUAL, 810, False),
    (Ending.CANCELLED, None, USUAL, 750, True),
    (Ending.CANCELLED, None, WHOLE, 2050, True),
    (Ending.CANCELLED, None, PROMPT, 50, True),
    (Ending.CANCELLED, None, NOTHING, None, False),
    (Ending.CANCELLED, REPORTED, NOTHING, 810, False),
    (Ending.BROKEN, REPORTED, USUAL, 810, False),
    (Ending.BROKEN, None, USUAL, 750, True),
    (Ending.BROKEN, None, WHOLE, 2050, True),
    (Ending.BROKEN, None, NOTHING, None, False),
    (Ending.SILENT, None, USUAL, None, False),
    (Ending.SILENT, None, PROMPT, 50, True),
    (Ending.SILENT, REPORTED, USUAL, 810, False),
    (Ending.REFUSED, None, USUAL, None, False),
    (Ending.REFUSED, None, PROMPT, 50, True),
    (Ending.REFUSED, REPORTED, USUAL, 810, False),
    (Ending.FAILED, None, WHOLE, None, False),
    (Ending.FAILED, REPORTED, USUAL, 810, False),
    (Ending.UNSENT, None, WHOLE, None, False),
]


@pytest.mark.parametrize(("ending", "reported", "bills", "cost", "estimated"), GOLDEN)
def test_golden(ending: Ending, reported: Usage | None, bills: Bills, cost: int | None, estimated: bool) -> None:
    """The table, row by row."""
    row = charge(attempted(ending, reported, bills), priced)

    assert cost == (row.cost if row else None)
    if row is not None:
        assert (f"{ending.value}/{VERSION}", estimated) == (row.rule, row.usage.estimated)


@pytest.mark.parametrize("fault", [fault for fault in Fault.values() if fault])
def test_an_error_before_any_content_is_never_charged(fault: Fault.ValueType) -> None:
    """Whatever the vendor said, and whatever its text was: unless it is known to bill for exactly this."""
    assert charge(attempted(ending_of(fault, content=False)), priced) is None


@pytest.mark.parametrize("fault", [pb.FAULT_STALL, pb.FAULT_TRUNCATED, pb.FAULT_SERVER])
def test_what_came_before_it_broke_is_charged(fault: Fault.ValueType) -> None:
    """As an estimate."""
    row = charge(attempted(ending_of(fault, content=True)), priced)

    assert row is not None
    assert (750, True) == (row.cost, row.usage.estimated)


def test_unknown_price_is_unknown_and_not_nothing() -> None:
    """Of the row, and of the whole call."""
    rows = charges([(attempted(Ending.COMPLETED, REPORTED), priced), (attempted(Ending.COMPLETED, REPORTED), None)])

    assert [810, None] == [row.cost for row in rows]
    assert total(rows) is None


def test_impossible_figures_are_kept_apart() -> None:
    """Nobody owes a vendor's mistake."""
    row = charge(attempted(Ending.COMPLETED, Usage(input_tokens=-4, output_tokens=9)), priced)

    assert row == ChargeRow(1, Usage(input_tokens=-4, output_tokens=9), None, f"quarantined/{VERSION}")


@given(
    st.sampled_from(Ending),
    st.builds(Bills, *[st.sampled_from(Part)] * 4),
    st.one_of(st.none(), st.integers(0, 10**6)),
    st.integers(0, 10**6),
)
def test_no_charge_is_below_nothing_and_reports_are_never_estimates(
    ending: Ending, bills: Bills, reported: int | None, delivered: int
) -> None:
    """Whatever ends however."""
    usage = None if reported is None else Usage(output_tokens=reported)
    row = charge(Attempted(1, ending, usage, 5, delivered, 0, bills), priced)

    assert row is None or ((row.cost or 0) >= 0 and row.usage.estimated == (usage is None))
    assert usage is None or (row is not None and row.usage == usage)


def test_what_a_vendor_is_known_to_bill() -> None:
    """What nobody said is as usual."""
    bills = bills_of(Billing(disconnect=BILLED_PART_WHOLE, refusal=BILLED_PART_PROMPT))

    assert Bills(disconnect=Part.WHOLE, refusal=Part.PROMPT) == bills
    assert USUAL == bills_of(Billing())
    assert Ending.REFUSED == ending_of(pb.FAULT_FILTER, content=False)


@given(st.integers(0, 10**15), st.integers(0, 10**9))
def test_a_charge_is_within_half_a_nano_dollar_of_cost_times_multiplier(cost: int, millionths: int) -> None:
    """A half goes up."""
    over = 2 * (multiplied(cost, millionths) * 1_000_000 - cost * millionths)

    assert -1_000_000 < over <= 1_000_000
