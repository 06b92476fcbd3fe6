"""Which tier holds, and that nothing is charged twice."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.router.v1.router_pb2 import Price, PriceTier
from polyroute.edge.costs import cost_of
from polyroute.mesh.pricing import in_force, within_reach

BASE = Price(input=1, output=2)
LONG = Price(input=3, output=4)
SAID = Price(input=5, output=6)
THOUGHT = Price(input=7, output=8)
TIERED = Price(
    input=1,
    output=2,
    tiers=[
        PriceTier(answer_above=10, price=SAID),
        PriceTier(above=100, price=LONG),
        PriceTier(above=100, reasoned=True, price=THOUGHT),
    ],
)
BUCKETS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")


@pytest.mark.parametrize(
    ("prompt", "answer", "reasoning", "expected"),
    [
        (0, 0, 0, TIERED),
        (100, 10, 0, TIERED),
        (100, 11, 0, SAID),
        (101, 0, 0, LONG),
        (101, 11, 0, LONG),
        (101, 1, 1, THOUGHT),
        (50, 1, 1, TIERED),
    ],
)
def test_the_last_tier_that_holds(prompt: int, answer: int, reasoning: int, expected: Price) -> None:
    """At the bounds, and beyond both of them."""
    assert expected == in_force(TIERED, prompt, answer, reasoning)


def test_a_hold_covers_every_tier_that_may_come() -> None:
    """The answer is not known; a prompt that is short enough rules the longer tiers out."""
    assert [TIERED, SAID] == list(within_reach(TIERED, 100))
    assert [TIERED, SAID, LONG, THOUGHT] == list(within_reach(TIERED, 101))


def used(counts: list[int]) -> Usage:
    """Usage with so many tokens in each bucket."""
    usage = Usage()
    for name, count in zip(BUCKETS, counts, strict=True):
        setattr(usage, name, count)
    return usage


figures = st.integers(0, 10**12)
tokens = st.integers(0, 10**7)


@st.composite
def growing(draw: st.DrawFn) -> Price:
    """A price whose tiers are dearer the longer the prompt is."""
    levels = sorted(draw(st.lists(st.tuples(figures, figures), min_size=1, max_size=4)))
    bounds = sorted(draw(st.sets(st.integers(1, 10**6), min_size=len(levels) - 1, max_size=len(levels) - 1)))
    output, found = 0, []
    for given_input, given_output in levels:
        output = max(output, given_output)
        found.append(Price(input=given_input, output=output))
    tiers = [PriceTier(above=bound, price=price) for bound, price in zip(bounds, found[1:], strict=True)]
    return Price(input=found[0].input, output=found[0].output, tiers=tiers)


@given(growing(), st.lists(tokens, min_size=5, max_size=5), st.sampled_from(BUCKETS), tokens)
def test_more_tokens_never_cost_less(price: Price, counts: list[int], bucket: str, more: int) -> None:
    """In whichever bucket they are."""
    usage = used(counts)
    larger = Usage()
    larger.CopyFrom(usage)
    setattr(larger, bucket, getattr(usage, bucket) + more)

    assert cost_of(usage, price) <= cost_of(larger, price)


@given(growing(), st.lists(tokens, min_size=5, max_size=5))
def test_the_buckets_sum_to_the_cost(price: Price, counts: list[int]) -> None:
    """Each once, by the one tier that holds for the call; rounded once, at the end."""
    usage = used(counts)
    held = in_force(price, sum(counts[:3]), sum(counts[3:]), counts[4])
    exact = Fraction(sum(counts[:3]) * held.input + sum(counts[3:]) * held.output, 10**6)

    assert abs(exact - cost_of(usage, price)) <= Fraction(1, 2)
