"""What is held for a call whose price depends on its length."""

import pytest

from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, RequestFacts
from polyroute.api.router.v1.router_pb2 import Attempt, Price, PriceTier
from polyroute.edge.bill import bill_of

M = 1_000_000
TIERED = Attempt(
    price=Price(
        input=1 * M,
        output=2 * M,
        tiers=[
            PriceTier(answer_above=10, price=Price(input=1 * M, output=3 * M)),
            PriceTier(above=1000, price=Price(input=10 * M, output=20 * M)),
        ],
    )
)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (100, 100 + 50 * 3),  # the answer may get long enough for the dearer figure
        (800, 800 + 50 * 3),
        (801, 8010 + 50 * 20),  # an estimate is a little short at times: the next tier is near
        (2000, 20_000 + 50 * 20),
    ],
)
def test_a_hold_covers_the_tier_that_may_come(prompt: int, expected: int) -> None:
    """Whatever the estimate of the prompt is off by, up to a quarter, and however long the answer gets."""
    facts = RequestFacts(operation=OPERATION_CHAT, input_tokens_estimate=prompt, max_output_tokens=50)

    assert expected == bill_of([TIERED], facts).needed
