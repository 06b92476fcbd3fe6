"""Money on the command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.cli.money import nanos, usd
from polyroute.mesh.roles import ConfigError


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("5USD", 5_000_000_000),
        ("5 usd", 5_000_000_000),
        ("$2.50", 2_500_000_000),
        ("0.000123456 USD", 123_456),
        ("0.000000001", 1),
        ("-1", -1_000_000_000),
        ("0", 0),
        ("9223372036.854775807", 9_223_372_036_854_775_807),
        ("0.1", 100_000_000),
    ],
)
def test_amounts(text: str, amount: int) -> None:
    """Are read to the last digit."""
    assert amount == nanos(text, "--amount")


@pytest.mark.parametrize(
    "text", ["", "USD", "5EUR", "1.0000000001", "1e3", "1,5", ".5", "5.", "--1", "9223372036.854775808", "٥"]
)
def test_what_is_no_amount(text: str) -> None:
    """Is refused with the option's name; nothing is rounded."""
    with pytest.raises(ConfigError, match="--amount"):
        nanos(text, "--amount")


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0.00 USD"),
        (123_456, "0.000123456 USD"),
        (5_000_000_000, "5.00 USD"),
        (-1, "-0.000000001 USD"),
        (1_500_000_000, "1.50 USD"),
    ],
)
def test_exact_texts(amount: int, text: str) -> None:
    """Two digits behind the point at least, and as many as there are."""
    assert text == usd(amount)


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_back_and_forth(amount: int) -> None:
    """What is printed is what was read."""
    assert amount == nanos(usd(amount), "--amount")
