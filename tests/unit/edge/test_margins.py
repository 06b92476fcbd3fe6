"""What is held beside the estimates of prompts."""

from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.router.v1.router_pb2 import Attempt, Price, PriceTier
from polyroute.edge import margins
from polyroute.edge.bill import LEAST_ANSWER, bill_of
from polyroute.edge.margins import LATELY, MOST_SHARE, MOST_TOKENS, SHORT, TELLING, Margins
from tests.unit.edge.peers import Clock
from tests.unit.edge.test_bill import CHEAP, DEAR, facts


def test_nothing_is_held_beside_what_was_never_wrong() -> None:
    """An estimate that was too high is none that was too low."""
    known = Margins(Clock())
    known.saw("a/x", 100, 100)
    known.saw("a/x", 100, 40)

    assert [0, 0] == [known.of("a/x", 100), known.of("b/y", 100)]


def test_what_was_missing_is_held() -> None:
    """Of short prompts so many tokens, of long ones such a share; where it was seen, and nowhere else."""
    known = Margins(Clock())
    known.saw("a/x", 7, 15)
    known.saw("a/x", 10, 12)
    known.saw("a/x", 100, 185)
    known.saw("a/x", 1000, 1100)

    assert [8, 8, 170, 0] == [known.of("a/x", 7), known.of("a/x", SHORT - 1), known.of("a/x", 200), known.of("b/y", 7)]


def test_it_is_remembered_for_a_while() -> None:
    """And what came since for as long again."""
    clock = Clock()
    known = Margins(clock)
    known.saw("a/x", 10, 30)
    clock.advance(LATELY + 1)
    known.saw("a/x", 10, 15)
    first = known.of("a/x", 10)
    clock.advance(LATELY + 1)
    second = known.of("a/x", 10)
    clock.advance(2 * LATELY + 1)

    assert [20, 5, 0] == [first, second, known.of("a/x", 10)]


def test_it_has_bounds() -> None:
    """What a vendor says is believed so far, and of so many deployments."""
    clock = Clock()
    known = Margins(clock)
    known.saw("a/x", 1, 10**12)
    known.saw("a/x", 100, 10**12)
    for number in range(margins.KEPT):
        known.saw(f"b/{number}", 1, 3)

    assert 0 == known.of("a/x", 1)
    known.saw("a/x", 1, 10**12)
    known.saw("a/x", 100, 10**12)
    assert [MOST_TOKENS, 1000 * (MOST_SHARE - 1)] == [known.of("a/x", 1), known.of("a/x", 1000)]


@given(tokens=st.integers(TELLING, 10**6), share=st.floats(1.0, MOST_SHARE))
def test_the_same_prompt_again_is_covered(tokens: int, share: float) -> None:
    """To the token, and no more than two beyond it where it is long."""
    known = Margins(Clock())
    counted = int(tokens * share)
    known.saw("a/x", tokens, counted)
    held = tokens + known.of("a/x", tokens)

    assert counted <= held <= counted + 2


def test_bill_with_a_margin() -> None:
    """It is needed, but no call is refused for it."""
    known = Margins(Clock())
    known.saw("a/x", 10, 25)
    bounded = bill_of([CHEAP, DEAR], facts(max_output_tokens=100), margins=known)
    free = bill_of([CHEAP], facts(), margins=known)
    dearer = PriceTier(above=20, price=Price(input=9_000_000))
    tiered = Attempt(deployment="a/x", price=Price(input=1_000_000, tiers=[dearer]))

    # the dearest attempt is another one, whose prompts are not longer than their estimates
    assert (40 + 500, 40 + 500) == (bounded.needed, bounded.least)
    assert (25 + 2 * free.answer, 10 + 2 * LEAST_ANSWER) == (free.needed, free.least)
    assert [20, 100] == [free.affordable(25 + 40), free.affordable(25 + 200)]
    assert 20 == free.affordable(10 + 40)
    assert 25 * 9 == bill_of([tiered], facts(max_output_tokens=0), margins=known).needed
