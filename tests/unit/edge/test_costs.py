"""What usage costs by a price."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.router.v1.router_pb2 import Price
from polyroute.edge.costs import MILLION, cost_of

TOKENS = st.integers(0, 10**12)
NANOS = st.integers(0, 10**13)


@pytest.mark.parametrize(
    ("usage", "price", "nanos"),
    [
        (Usage(input_tokens=1_000_000), Price(input=2_500_000_000), 2_500_000_000),
        (Usage(input_tokens=10**12), Price(input=10**13), 10**19),  # beyond 64 bits: integers do not round
        (Usage(output_tokens=3), Price(output=150_000_000), 450),
        (Usage(cache_read_tokens=10), Price(input=3_000_000), 30),  # no price of its own: the input's
        (Usage(cache_read_tokens=10), Price(input=3_000_000, cache_read=0), 0),  # a price of nothing is a price
        (Usage(cache_write_tokens=10), Price(input=3_000_000, cache_write=4_000_000), 40),
        (Usage(reasoning_tokens=10), Price(output=3_000_000), 30),
        (Usage(reasoning_tokens=10), Price(output=3_000_000, reasoning=5_000_000), 50),
        (Usage(), Price(request=5_000_000), 5),
        (Usage(input_tokens=1), Price(input=499_999), 0),
        (Usage(input_tokens=1), Price(input=500_000), 1),
    ],
)
def test_cost(usage: Usage, price: Price, nanos: int) -> None:
    """Each bucket by its own price, once; to the nearest nano-dollar."""
    assert nanos == cost_of(usage, price)


@given(st.tuples(*[TOKENS] * 5), st.tuples(*[NANOS] * 5), NANOS)
def test_cost_is_the_exact_sum_rounded_once(tokens: tuple[int, ...], nanos: tuple[int, ...], request: int) -> None:
    """Never off by more than half a nano-dollar, whatever the figures."""
    names = ("input", "cache_read", "cache_write", "output", "reasoning")
    usage = Usage(**{f"{name}_tokens": count for name, count in zip(names, tokens, strict=True)})  # type: ignore[arg-type]
    price = Price(request=request, **dict(zip(names, nanos, strict=True)))  # type: ignore[arg-type]
    exact = Fraction(sum(count * each for count, each in zip(tokens, nanos, strict=True)) + request, 10**6)

    assert abs(cost_of(usage, price) - exact) <= Fraction(1, 2)


def test_units_beside_tokens_have_prices_of_their_own() -> None:
    """Pictures and sound by their fields, everything else by the name under which it is reported."""
    price = Price(input=0, output=0, other={"images": 40_000 * MILLION, "web_search_requests": 10 * MILLION, "x": 1})
    usage = Usage(images=2, audio_milliseconds=5, other={"web_search_requests": 3, "unpriced": 9})

    assert 2 * 40_000 + 3 * 10 == cost_of(usage, price)
