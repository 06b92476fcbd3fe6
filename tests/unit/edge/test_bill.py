"""The most that a call can cost, by its plan."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1.chat_pb2 import (
    CAPABILITY_TOOLS,
    CAPABILITY_VISION,
    OPERATION_CHAT,
    OPERATION_EMBEDDING,
    OPERATION_IMAGE,
    OPERATION_SPEECH,
    OPERATION_TRANSCRIPTION,
    RequestFacts,
)
from polyroute.api.router.v1.router_pb2 import Attempt, Billing, Price
from polyroute.edge.bill import ANSWER_TOKENS, LEAST_ANSWER, MILLION, Bill, bill_of
from polyroute.edge.charging import multiplied

CHEAP = Attempt(deployment="a/x", price=Price(input=1_000_000, output=2_000_000, version="v1"))
DEAR = Attempt(deployment="b/y", price=Price(input=3_000_000, output=5_000_000, cache_write=4_000_000, version="v1"))


def facts(**fields: Any) -> RequestFacts:
    """Of a conversation of ten tokens."""
    values: dict[str, Any] = {"operation": OPERATION_CHAT, "model": "m", "input_tokens_estimate": 10} | fields
    return RequestFacts(**values)


def test_bill_is_by_the_dearest_attempt() -> None:
    """Each part by its own; what the caller bounds is bounded."""
    bill = bill_of([CHEAP, DEAR], facts(max_output_tokens=100))
    free = bill_of([CHEAP], facts())

    assert (40 + 500, 40 + 500) == (bill.needed, bill.least)
    assert (10 + 2 * ANSWER_TOKENS, 10 + 2 * LEAST_ANSWER) == (free.needed, free.least)
    assert 10 == bill_of([CHEAP], facts(operation=OPERATION_EMBEDDING)).needed
    pictures = Attempt(price=Price(input=1_000_000, other={"images": 30_000_000, "web_search_requests": 5_000_000}))
    assert 10 + 4 * 30 == bill_of([pictures], facts(operation=OPERATION_IMAGE, choices=4)).needed
    assert 40 + 1500 == bill_of([CHEAP, DEAR], facts(max_output_tokens=100, choices=3)).needed


@pytest.mark.parametrize(
    ("unasked", "needs", "searches"),
    [
        (False, [], 0),
        (False, [CAPABILITY_VISION], 0),
        (False, [CAPABILITY_TOOLS], 1),
        (True, [], 1),
    ],
)
def test_a_search_is_held_where_there_can_be_one(unasked: bool, needs: list[Any], searches: int) -> None:
    """A call without tools is not refused for the price of what it cannot do."""
    price = Price(input=1_000_000, output=1_000_000, other={"web_search_requests": 10_000_000_000})
    attempt = Attempt(price=price, billing=Billing(searches=unasked))
    bill = bill_of([attempt], facts(max_output_tokens=5, needs=needs))

    assert 15 + searches * 10_000 == bill.needed


def test_sound_is_held_by_its_length() -> None:
    """Of a transcription, by units and by tokens; by a minute at least, as speech, whose length nobody knows."""
    heard = Attempt(price=Price(other={"audio_milliseconds": 100_000_000}))  # 0.006 USD per minute
    counted = Attempt(price=Price(input=6_000_000_000))
    asked = facts(operation=OPERATION_TRANSCRIPTION, sound_milliseconds=1_800_000)
    short = facts(operation=OPERATION_TRANSCRIPTION, sound_milliseconds=1000)

    assert 180_000_000 == bill_of([heard], asked).needed
    assert 18_000 * 6000 == bill_of([counted], asked).needed
    assert {6_000_000} == {bill_of([heard], one).needed for one in (short, facts(operation=OPERATION_SPEECH))}


def test_who_pays_nothing_needs_nothing() -> None:
    """And gets as long an answer as anybody."""
    bill = bill_of([CHEAP], facts(), 0)

    assert (0, ANSWER_TOKENS) == (bill.needed, bill.affordable(0))


@given(st.integers(0, 10**7), st.integers(1, 10**9), st.integers(0, 10**5), st.integers(1, 10**8))
def test_what_is_held_covers_what_is_charged(prompt: int, token: int, answer: int, millionths: int) -> None:
    """For every multiplier, and for an answer that was cut to what can be paid."""
    bill = Bill(prompt, token, answer, bounded=False, multiplier=millionths)
    cost = prompt + (answer * token + MILLION // 2) // MILLION
    affordable = bill.affordable(bill.least)

    assert multiplied(cost, millionths) <= bill.needed
    assert bill.with_answer(min(answer, affordable)) <= max(bill.least, bill.with_answer(0))
