"""The package's data as our prices: exact, by the length of the prompt and by the hour."""

import socket
from datetime import UTC, datetime
from decimal import Decimal
from math import inf
from typing import Any

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data import providers
from genai_prices.types import ModelPrice, StartDateConstraint

from polyroute.api.chat.v1 import chat_pb2
from polyroute.edge.costs import cost_of
from polyroute.router.prices.published import Published, PublishedTariff, price_at

NANO = 10**9
NOW = datetime(2026, 11, 20, 2, 30, tzinfo=UTC)
MODELS = [(book, info) for book in providers for info in book.models]
BOTH = ("input", "output")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data ships with the package."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def plain(value: Any) -> Decimal:
    """A figure without its tiers."""
    found: Decimal = getattr(value, "base", value) or Decimal(0)
    return found


def test_prices_are_exact() -> None:
    """Published figures in nano-dollars per million tokens: never off by more than half of one, for every model."""
    compared = 0
    for _, info in MODELS:
        price = price_at(info, NOW, needed=BOTH)
        if price is None:
            continue
        published = info.get_prices(NOW)
        for member in ("input", "cache_read", "cache_write", "output"):
            compared += 1
            exact = plain(getattr(published, f"{member}_mtok")) * NANO

            assert abs(exact - getattr(price, member)) <= Decimal("0.5")

    assert compared > 4000


def test_no_part_of_a_price_is_nothing_by_default() -> None:
    """A figure that the data does not give is unknown, not free; a bucket without one is charged as the input."""
    for _, info in MODELS:
        price, published = price_at(info, NOW, needed=BOTH), info.get_prices(NOW)

        assert price is None or published.output_mtok is not None
        assert price is None or price.HasField("cache_read") == (published.cache_read_mtok is not None)


def test_long_prompts_cost_what_the_package_says() -> None:
    """Tiers on both sides of every bound, to the nano-dollar: input, cache and answer."""
    compared = 0
    for book, info in MODELS:
        price = price_at(info, NOW, needed=BOTH)
        for bound in [] if price is None else [tier.above for tier in price.tiers]:
            for prompt in (bound, bound + 1):
                usage = chat_pb2.Usage(input_tokens=prompt - 100, cache_read_tokens=100, output_tokens=50)
                counted = Usage(input_tokens=prompt, cache_read_tokens=100, output_tokens=50)
                theirs = info.calc_price(counted, book, genai_request_timestamp=NOW).total_price * NANO
                compared += 1

                assert price is not None
                assert abs(cost_of(usage, price) - theirs) <= 1, f"{book.id}/{info.id}"

    assert compared > 50


def test_prices_by_the_hour_turn_when_the_package_says() -> None:
    """At each boundary, and not a second before."""
    hourly = [
        (book.id, info)
        for book, info in MODELS
        if isinstance(info.prices, list) and any(hasattr(one.constraint, "start_time") for one in info.prices)
    ]
    for book, info in hourly:
        tariff = PublishedTariff(book, info)
        moment = NOW.timestamp()
        for _ in range(6):
            quote = tariff.quote(moment)
            last = datetime.fromtimestamp(quote.until - 1, UTC)

            assert moment < quote.until < inf
            assert price_at(info, last, needed=BOTH, version=quote.price.version) == quote.price  # type: ignore[union-attr]
            moment = quote.until

    assert hourly


def test_dated_prices_turn_at_midnight() -> None:
    """The package's dates are days of UTC; each of a model's prices has a version of its own."""
    dated = [
        (book.id, info, one.constraint.start_date)
        for book, info in MODELS
        if isinstance(info.prices, list)
        for one in info.prices
        if isinstance(one.constraint, StartDateConstraint)
    ]
    for book, info, start in dated:
        tariff = PublishedTariff(book, info)
        midnight = datetime(start.year, start.month, start.day, tzinfo=UTC).timestamp()
        before, after = tariff.quote(midnight - 1), tariff.quote(midnight)

        assert before.until == midnight
        assert before.price is None or after.price is None or before.price.version != after.price.version

    assert dated


def test_unknown_names_have_no_price() -> None:
    """Neither a vendor nor a model that the package lacks."""
    published = Published()

    assert published.tariff("", "gpt-4o") is None
    assert published.tariff("no-such-vendor", "gpt-4o") is None
    assert published.tariff("openai", "nothing-like-it") is None


def test_a_price_without_an_answer_is_none_for_what_answers() -> None:
    """And is one for vectors, whose answers are not counted."""
    published = Published()
    answering = published.tariff("openai", "text-embedding-3-small", answers=True)
    vectors = published.tariff("openai", "text-embedding-3-small", answers=False)

    assert answering is not None
    assert vectors is not None
    assert answering.quote(NOW.timestamp()).price is None
    assert 20_000_000 == vectors.quote(NOW.timestamp()).price.input  # type: ignore[union-attr]


def test_the_packages_own_arithmetic_agrees() -> None:
    """One figure of one model, written out: 1000 tokens in, 500 out."""
    usage = chat_pb2.Usage(input_tokens=1000, output_tokens=500)
    tariff = Published().tariff("openai", "gpt-4o-mini")
    assert tariff is not None
    price = tariff.quote(NOW.timestamp()).price
    assert price is not None
    theirs = calc_price(Usage(input_tokens=1000, output_tokens=500), "gpt-4o-mini", provider_id="openai")

    assert 450_000 == cost_of(usage, price) == theirs.total_price * NANO
    assert isinstance(theirs.model_price, ModelPrice)
