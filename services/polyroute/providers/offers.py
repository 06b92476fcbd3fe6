"""What the router may put in its catalog without being told: the models that a found account is known to serve.

Names and context lengths come from the price data that ships with the package; nothing is asked of a vendor. What the
models cost is for the router to find.
"""

from collections.abc import Collection, Iterable
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import Operation
from polyroute.api.providers.v1.providers_pb2 import KnownModel

# Names that say what a model is for; the price data does not.
_OTHER_WORK: Final = ("whisper", "tts", "dall-e", "image", "moderation", "audio", "realtime", "transcribe", "rerank")
_TEXT: Final = frozenset({chat_pb2.OPERATION_CHAT, chat_pb2.OPERATION_EMBEDDING})


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
    if operation in offered:
        yield KnownModel(id=name, operations=[operation], context_tokens=info.context_window or 0)


def _operation(name: str, offered: Collection[Operation.ValueType]) -> Operation.ValueType:
    if "embed" in name or chat_pb2.OPERATION_CHAT not in offered:
        return chat_pb2.OPERATION_EMBEDDING
    return chat_pb2.OPERATION_CHAT
