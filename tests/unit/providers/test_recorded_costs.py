"""What an answer costs by our buckets is what the price data's own reading of the vendor's usage makes of it.

Two readings of one figure: the dialect's usage with our arithmetic in nano-USD, and the price data's extractor with its
own. Answers without usage, models without a plain price, and usage of kinds that our buckets have no price for (sound,
tools) say nothing here.
"""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import pytest
from genai_prices import calc_price, extract_usage
from genai_prices.data import providers

from polyroute.dialects.registry import OUTBOUND
from polyroute.edge.costs import cost_of
from polyroute.mesh.errors import MeshError
from polyroute.router.prices.published import price_at
from tests.recordings import body_of, exchanges

# wire of the recording -> our dialect
WIRES: Final = {
    "openai.chat": "openai.chat",
    "openai.responses": "openai.responses",
    "anthropic.messages": "anthropic.messages",
    "gemini.generateContent": "gemini.generate",
    "cohere.chat_v2": "cohere.chat",
    "bedrock.converse": "bedrock.converse",
}
# provider of the recording -> its name in the price data, and which of its readings of usage fits the wire
BOOKS: Final = {
    ("openai", "openai.chat"): ("openai", "chat"),
    ("openai", "openai.responses"): ("openai", "responses"),
    ("anthropic", "anthropic.messages"): ("anthropic", "default"),
    ("gemini", "gemini.generateContent"): ("google", "default"),
    ("vertex", "gemini.generateContent"): ("google", "default"),
    ("deepseek", "openai.chat"): ("deepseek", "chat"),
    ("xai", "openai.chat"): ("x-ai", "chat"),
    ("xai", "openai.responses"): ("x-ai", "responses"),
    ("mistral", "openai.chat"): ("mistral", "default"),
    ("cohere", "cohere.chat_v2"): ("cohere", "tokens"),
    ("groq", "openai.chat"): ("groq", "default"),
    ("cerebras", "openai.chat"): ("cerebras", "chat"),
    ("bedrock", "bedrock.converse"): ("aws", "default"),
}
WHOLE: Final = [
    row
    for row in exchanges(*WIRES)
    if (row["provider"], row["wire"]) in BOOKS and row["response_file"].endswith(".json") and row["status"] == 200
]
NANO: Final = Decimal(10**9)
NOW: Final = datetime.now(UTC)
pytestmark = pytest.mark.skipif(not WHOLE, reason="no recordings: POLYROUTE_FIXTURES names their folder")


def model_of(book: str, name: str) -> Any:
    """A model of the price data by the name that a vendor gives it; None when it has none."""
    provider = next(provider for provider in providers if provider.id == book)
    return provider.find_model(name)


def theirs(value: Any, book: str, flavour: str) -> Any:
    """The price data's own reading; None where it cannot read the answer."""
    try:
        extracted = extract_usage(value, provider_id=book, api_flavor=flavour)
    except (LookupError, ValueError, TypeError, AssertionError):
        return None
    return extracted if extracted.model is not None else None


def priced(row: dict[str, Any]) -> tuple[int, Decimal] | None:
    """What an answer costs in nano-USD, by us and by them; None where one of both cannot say."""
    book, flavour = BOOKS[row["provider"], row["wire"]]
    body = body_of(row)
    try:
        value = json.loads(body)
        answer = OUTBOUND[WIRES[row["wire"]]].read_answer(body)
    except (ValueError, MeshError):
        return None
    extracted = theirs(value, book, flavour) if isinstance(value, dict) else None
    if extracted is None or not answer.HasField("usage"):
        return None
    info = model_of(book, extracted.model.id)
    price = price_at(info, NOW, needed=("input",)) if info is not None else None
    usage = extracted.usage
    beyond = ("input_audio_tokens", "output_audio_tokens", "cache_audio_read_tokens", "output_image_tokens")
    if price is None or any(getattr(usage, name, None) for name in beyond):
        return None
    if answer.usage.cache_read_tokens and not usage.cache_read_tokens:
        return None  # their reading of this vendor does not know its cache
    their = calc_price(usage, model_ref=info.id, provider_id=book, genai_request_timestamp=NOW)
    return cost_of(answer.usage, price), their.total_price * NANO


@pytest.mark.parametrize("row", WHOLE, ids=[f"{row['api']}-{row['id']}" for row in WHOLE])
def test_an_answer_costs_the_same_by_both_readings(row: dict[str, Any]) -> None:
    """To the nano-dollar; what one of both cannot price is no case."""
    both = priced(row)
    if both is None:
        return
    ours, their = both

    assert abs(ours - their) <= 1


def test_most_answers_are_priced() -> None:
    """The comparison above compares something."""
    assert sum(priced(row) is not None for row in WHOLE) > len(WHOLE) / 3
