"""What the router may put in its catalog without being told: the models that a found account is known to serve.

Names, context lengths and prices come from the price data that ships with the package; nothing is asked of a vendor.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import Operation
from polyroute.api.providers.v1.providers_pb2 import KnownModel
from polyroute.api.router.v1.router_pb2 import Price

NANO: Final = Decimal(10**9)
# Names that say what a model is for; the price data does not.
_OTHER_WORK: Final = ("whisper", "tts", "dall-e", "image", "moderation", "audio", "realtime", "transcribe", "rerank")
_TEXT: Final = frozenset({chat_pb2.OPERATION_CHAT, chat_pb2.OPERATION_EMBEDDING})

# Members of Price, and where the price data has them, in USD per million tokens.
_MEMBERS: Final = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "reasoning": "output_reasoning_mtok",
}
# Units that answers report beside tokens, and where the price data has them, in USD per thousand.
_COUNTED: Final = {"web_search_requests": "web_searches_kcount"}
_HOUR: Final = "ephemeral_1h_input_tokens"  # of the tokens written to the cache, those that stay an hour


def known_models(price_book: str, offered: Collection[Operation.ValueType] = _TEXT) -> list[KnownModel]:
    """The models of one vendor in the price data, those for text and vectors only; empty for an unknown vendor.

    Args:
        price_book: The vendor's name there.
        offered: The kinds of work that the vendor does; models for others are left out.
    """
    if not price_book:
        return []
    from genai_prices.data import providers

    for provider in providers:
        if provider.id == price_book:
            return [model for info in provider.models for model in _known(info, offered)]
    return []


def _known(info: Any, offered: Collection[Operation.ValueType]) -> Iterable[KnownModel]:
    name = str(info.id)
    if any(word in name for word in _OTHER_WORK) or getattr(info, "deprecated", False):
        return
    operation = _operation(name, offered)
    if operation not in offered:
        return
    yield KnownModel(
        id=name,
        operations=[operation],
        context_tokens=info.context_window or 0,
        price=_price(info, needed=("input", "output") if operation == chat_pb2.OPERATION_CHAT else ("input",)),
    )


def _operation(name: str, offered: Collection[Operation.ValueType]) -> Operation.ValueType:
    if "embed" in name or chat_pb2.OPERATION_CHAT not in offered:
        return chat_pb2.OPERATION_EMBEDDING
    return chat_pb2.OPERATION_CHAT


def _price(info: Any, *, needed: Iterable[str]) -> Price | None:
    """Today's price; None where it is not whole, or depends on the length of the prompt or on the hour."""
    if _by_the_hour(info.prices):
        return None
    prices = info.get_prices(datetime.now(UTC))
    figures = {name: getattr(prices, member, None) for name, member in _MEMBERS.items()}
    if any(figures[name] is None for name in needed):
        return None
    if not all(value is None or isinstance(value, Decimal) for value in figures.values()):
        return None
    nanos = {name: round(value * NANO) for name, value in figures.items() if value is not None}
    return Price(version="genai-prices", other=_beside(prices, nanos), **nanos)


def _beside(prices: Any, nanos: Mapping[str, int]) -> dict[str, int]:
    """What is charged beside the buckets: things that are counted, and an hour in the cache above the usual time."""
    told = {unit: getattr(prices, member, None) for unit, member in _COUNTED.items()}
    other = {unit: round(value * NANO) * 1000 for unit, value in told.items() if isinstance(value, Decimal)}
    hour = getattr(prices, "cache_write_1h_mtok", None)
    if isinstance(hour, Decimal) and "cache_write" in nanos:
        other[_HOUR] = round(hour * NANO) - nanos["cache_write"]
    return other


def _by_the_hour(prices: Any) -> bool:
    conditional = prices if isinstance(prices, list) else ()
    return any(hasattr(one.constraint, "start_time") for one in conditional)
