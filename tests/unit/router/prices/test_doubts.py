"""Prices that are probably mistakes."""

import pytest

from polyroute.api.router.v1.router_pb2 import Price, PriceTier
from polyroute.router.prices.doubts import doubts, figures, usd

N = 10**9


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (None, Price(input=N, output=2 * N), []),
        (None, Price(input=0, output=0), []),
        (None, Price(input=150, output=N), ["input is 0.00000015 USD per million tokens: is it meant per million?"]),
        (None, Price(input=N, output=10_001 * N), ["output is 10001 USD per million tokens: is it meant per million?"]),
        (Price(input=N, output=N), Price(input=999 * N, output=N), []),
        (
            Price(input=N, output=N),
            Price(input=1000 * N, output=N),
            ["input goes from 1 to 1000 USD per million, 1000 times or more"],
        ),
        (
            Price(input=N, output=N, cache_read=N),
            Price(input=N, output=N, cache_read=N // 1000),
            ["cache_read goes from 1 to 0.001 USD per million, 1000 times or more"],
        ),
        (
            Price(input=N, output=N),
            Price(input=N, output=N, tiers=[PriceTier(above=5, price=Price(input=N, output=10**15))]),
            ["prompt>5.output is 1000000 USD per million tokens: is it meant per million?"],
        ),
    ],
)
def test_doubts(before: Price | None, after: Price, words: list[str]) -> None:
    """A price per token, one per thousand, a slip by three digits; becoming free or no longer is none."""
    assert words == list(doubts(before, after))


def test_figures_are_those_that_are_said() -> None:
    """One that is set to nothing is said; one that is not set is not."""
    price = Price(input=1, output=0, cache_read=0, request=5, other={"images": 7})

    assert {"input": 1, "output": 0, "cache_read": 0, "request": 5, "other.images": 7} == figures(price)


def test_dollars_are_written_exactly() -> None:
    """Without an exponent, without zeros at the end."""
    assert ["0", "0.000000001", "12.5", "-3"] == [usd(one) for one in (0, 1, 12_500_000_000, -3 * N)]
