"""What found accounts are known to serve."""

import socket

import pytest
from genai_prices.data import providers

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.providers.v1.providers_pb2 import KnownModel
from polyroute.providers.offers import known_models
from polyroute.providers.registry import all_vendors

PACKAGE = {provider.id for provider in providers}
BOOKS = sorted({vendor.price_book for vendor in all_vendors().values()} & PACKAGE)


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
