"""What found accounts are known to serve, and what it costs."""

import socket
from decimal import Decimal
from typing import Any

import pytest
from genai_prices.data import providers
from genai_prices.types import ModelPrice

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.providers.v1.providers_pb2 import KnownModel
from polyroute.providers.offers import known_models
from polyroute.providers.registry import all_vendors

BOOKS = sorted({vendor.price_book for vendor in all_vendors().values() if vendor.price_book})
NANO = 10**9


def in_book(book: str) -> dict[str, Any]:
    [provider] = [provider for provider in providers if provider.id == book]
    return {model.id: model for model in provider.models}


def known(book: str) -> dict[str, KnownModel]:
    return {model.id: model for model in known_models(book)}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data ships with the package."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("book", BOOKS)
def test_every_vendors_book_is_there(book: str) -> None:
    """A name that is wrong would silently offer nothing."""
    assert known(book)


@pytest.mark.parametrize("book", ["", "no-such-vendor"])
def test_unknown_book_offers_nothing(book: str) -> None:
    """A vendor without prices has to be told its models."""
    assert [] == known_models(book)


@pytest.mark.parametrize("book", BOOKS)
def test_prices_are_exact(book: str) -> None:
    """Published figures in nano-dollars per million tokens: never off by more than half of one."""
    entries = in_book(book)
    simple = {name: model for name, model in known(book).items() if isinstance(entries[name].prices, ModelPrice)}
    for name, model in simple.items():
        if model.HasField("price"):
            published = entries[name].prices
            for member in ("input", "cache_read", "cache_write", "output"):
                exact = (getattr(published, f"{member}_mtok") or 0) * NANO

                assert abs(exact - getattr(model.price, member)) <= Decimal("0.5")
            assert "genai-prices" == model.price.version


@pytest.mark.parametrize("book", BOOKS)
def test_price_with_a_condition_is_unknown(book: str) -> None:
    """By the length of the prompt or by the hour: one figure would be wrong half of the time."""
    entries = in_book(book)
    for name, model in known(book).items():
        prices = entries[name].prices
        hourly = isinstance(prices, list) and any("TimeOfDate" in type(one.constraint).__name__ for one in prices)
        tiered = isinstance(prices, ModelPrice) and any(
            hasattr(getattr(prices, f"{member}_mtok"), "tiers")
            for member in ("input", "output", "cache_read", "cache_write")
        )

        assert not (hourly or tiered) or not model.HasField("price")


@pytest.mark.parametrize("book", BOOKS)
def test_no_part_of_a_price_is_nothing_by_default(book: str) -> None:
    """A figure that the data does not give is unknown, not free."""
    entries = in_book(book)
    for name, model in known(book).items():
        prices = entries[name].prices
        if isinstance(prices, ModelPrice) and chat_pb2.OPERATION_CHAT in model.operations:
            assert prices.output_mtok is not None or not model.HasField("price")


def test_unset_bucket_is_unset() -> None:
    """It is then charged as the input, not as nothing."""
    free = [
        (book, name)
        for book in BOOKS
        for name, model in known(book).items()
        if isinstance(in_book(book)[name].prices, ModelPrice)
        and model.price.HasField("cache_read")
        and in_book(book)[name].prices.cache_read_mtok is None
    ]

    assert [] == free


def test_operation_follows_the_name() -> None:
    """The data does not say what a model is for."""
    models = known("openai")
    operations = {name: list(model.operations) for name, model in models.items()}

    assert [chat_pb2.OPERATION_EMBEDDING] == operations["text-embedding-3-small"]
    assert [chat_pb2.OPERATION_CHAT] == operations["gpt-4o-mini"]
    assert not any(word in name for name in operations for word in ("whisper", "tts", "dall-e", "moderation"))
    assert 128_000 == models["gpt-4o-mini"].context_tokens


def test_vendor_of_vectors_only() -> None:
    """Its models' names do not say what they are for, and need not."""
    work = (chat_pb2.OPERATION_EMBEDDING, chat_pb2.OPERATION_RERANK)
    operations = {tuple(model.operations) for model in known_models("voyageai", work)}

    assert {(chat_pb2.OPERATION_EMBEDDING,)} == operations


def test_work_that_a_vendor_does_not_do() -> None:
    """Is not offered, whatever the prices say."""
    names = [model.id for model in known_models("openai", [chat_pb2.OPERATION_CHAT])]

    assert names
    assert not any("embed" in name for name in names)
