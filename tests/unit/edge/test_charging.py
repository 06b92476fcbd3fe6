"""What attempts are charged: the golden cases of version 1 of the rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.edge.charging import VERSION, Attempted, Bills, ChargeRow, Ending, charge, charges, ending_of, total

REPORTED = Usage(input_tokens=10, cache_read_tokens=4, output_tokens=6, reasoning_tokens=2)


def priced(usage: Usage) -> int:
    """Prompts cost 1, answers 100, whatever is read from a cache nothing."""
    return usage.input_tokens + 100 * (usage.output_tokens + usage.reasoning_tokens)


def attempted(ending: Ending, reported: Usage | None = None, bills: Bills = Bills.DELIVERED) -> Attempted:
    """A prompt of 50 tokens, 7 tokens of the answer, which may have 20."""
    return Attempted(1, ending, reported, prompt_tokens=50, delivered_tokens=7, most_tokens=20, bills=bills)


# ending, what the vendor reports, what it bills -> what is charged, whether that is an estimate
GOLDEN = [
    (Ending.COMPLETED, REPORTED, Bills.DELIVERED, 810, False),
    (Ending.COMPLETED, None, Bills.DELIVERED, 750, True),
    (Ending.COMPLETED, None, Bills.NOTHING, 750, True),
    (Ending.CANCELLED, REPORTED, Bills.DELIVERED, 810, False),
    (Ending.CANCELLED, None, Bills.DELIVERED, 750, True),
    (Ending.CANCELLED, None, Bills.WHOLE, 2050, True),
    (Ending.CANCELLED, None, Bills.NOTHING, None, False),
    (Ending.CANCELLED, REPORTED, Bills.NOTHING, 810, False),
    (Ending.BROKEN, REPORTED, Bills.DELIVERED, 810, False),
    (Ending.BROKEN, None, Bills.DELIVERED, 750, True),
    (Ending.BROKEN, None, Bills.WHOLE, 2050, True),
    (Ending.BROKEN, None, Bills.NOTHING, None, False),
    (Ending.SILENT, None, Bills.WHOLE, None, False),
    (Ending.SILENT, REPORTED, Bills.DELIVERED, 810, False),
    (Ending.FAILED, None, Bills.WHOLE, None, False),
    (Ending.FAILED, REPORTED, Bills.DELIVERED, 810, False),
    (Ending.UNSENT, None, Bills.WHOLE, None, False),
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
    """Whatever the vendor said, and whatever its text was."""
    assert charge(attempted(ending_of(fault, content=False), bills=Bills.WHOLE), priced) is None


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
    st.sampled_from(Bills),
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
