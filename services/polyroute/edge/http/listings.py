"""Models and balances as each public API lists them."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal

from polyroute.api.auth.v1.limits_pb2 import Budget
from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.metrics.v1.metrics_pb2 import UsageRow
from polyroute.api.router.v1.router_pb2 import Model, Price

NANO: Final = 1_000_000_000
_METHODS: Final = {
    chat_pb2.OPERATION_CHAT: ("generateContent", "streamGenerateContent", "countTokens"),
    chat_pb2.OPERATION_EMBEDDING: ("embedContent", "batchEmbedContents"),
}
_PER_UNIT: Final = -15  # powers of ten from nano-USD per million to USD for one
_APART: Final[Mapping[str, Literal["cache_read", "cache_write", "reasoning"]]] = {
    "input_cache_read": "cache_read",
    "input_cache_write": "cache_write",
    "internal_reasoning": "reasoning",
}
_BESIDE: Final = {"image": "images", "web_search": "web_search_requests"}  # by the names that usage has
# What goes in and comes out by the work a model does first; what a capability adds is beside it.
_MODALITIES: Final[Mapping[int, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    chat_pb2.OPERATION_EMBEDDING: (("text",), ("embeddings",)),
    chat_pb2.OPERATION_RERANK: (("text",), ("rerank",)),
    chat_pb2.OPERATION_IMAGE: (("text",), ("image",)),
    chat_pb2.OPERATION_SPEECH: (("text",), ("audio",)),
    chat_pb2.OPERATION_TRANSCRIPTION: (("audio",), ("text",)),
}
_HEARD: Final[Mapping[int, str]] = {
    chat_pb2.CAPABILITY_VISION: "image",
    chat_pb2.CAPABILITY_AUDIO_INPUT: "audio",
    chat_pb2.CAPABILITY_FILES: "file",
}
_MADE: Final[Mapping[int, str]] = {
    chat_pb2.CAPABILITY_IMAGE_OUTPUT: "image",
    chat_pb2.CAPABILITY_AUDIO_OUTPUT: "audio",
}
_ALWAYS: Final = ("max_tokens", "temperature", "top_p", "stop")
_PARAMETERS: Final[Mapping[int, tuple[str, ...]]] = {
    chat_pb2.CAPABILITY_TOOLS: ("tools", "tool_choice"),
    chat_pb2.CAPABILITY_JSON_OBJECT: ("response_format",),
    chat_pb2.CAPABILITY_JSON_SCHEMA: ("structured_outputs",),
    chat_pb2.CAPABILITY_REASONING: ("reasoning", "include_reasoning"),
    chat_pb2.CAPABILITY_LOGPROBS: ("logprobs", "top_logprobs"),
}
_FAR: Final = 100_000_000  # a limit in USD for keys without one


def openai_model(model: Model) -> dict[str, Any]:
    """A model as OpenAI's clients expect it, with what the catalog knows beside it.

    Prices, modalities and parameters go by the names of https://openrouter.ai/docs/api-reference/list-available-models,
    which those who let people pick a model read.
    """
    return {
        "id": model.name,
        "object": "model",
        "created": model.create_time,
        "owned_by": ",".join(model.providers) or "polyroute",
        "alias_of": list(model.alias_of) or None,
        "context_length": model.context_tokens or None,
        "max_output_tokens": model.max_output_tokens or None,
        "architecture": _architecture(model),
        "pricing": pricing(model.first_price) if model.HasField("first_price") else None,
        "supported_parameters": _parameters(model),
    }


def pricing(price: Price) -> dict[str, str]:
    """A price as decimal strings, exactly: USD per token, per call, per picture and per search."""
    found = {"prompt": price.input, "completion": price.output, "request": price.request}
    found |= {word: getattr(price, name) for word, name in _APART.items() if price.HasField(name)}
    found |= {word: price.other[unit] for word, unit in _BESIDE.items() if unit in price.other}
    return {word: f"{Decimal(value).scaleb(_PER_UNIT).normalize():f}" for word, value in found.items()}


def _architecture(model: Model) -> dict[str, list[str]]:
    """What goes in and what comes out, as far as it is known."""
    known = frozenset(model.capabilities)
    ins, outs = _MODALITIES.get(next(iter(model.operations), chat_pb2.OPERATION_CHAT), (("text",), ("text",)))
    return {
        "input_modalities": [*ins, *(word for one, word in _HEARD.items() if one in known and word not in ins)],
        "output_modalities": [*outs, *(word for one, word in _MADE.items() if one in known and word not in outs)],
    }


def _parameters(model: Model) -> list[str]:
    """Parameters of a chat that are known to work; empty when nobody said what the model can do."""
    if not model.capabilities or chat_pb2.OPERATION_CHAT not in model.operations:
        return []
    known = frozenset(model.capabilities)
    return [*_ALWAYS, *(word for one, words in _PARAMETERS.items() if one in known for word in words)]


def anthropic_model(model: Model) -> dict[str, Any]:
    """A model in the form of https://docs.anthropic.com/en/api/models-list."""
    made = datetime.fromtimestamp(model.create_time, UTC)
    return {
        "type": "model",
        "id": model.name,
        "display_name": model.name,
        "created_at": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "max_input_tokens": model.context_tokens or None,
        "max_tokens": model.max_output_tokens or None,
    }


def anthropic_page(models: Sequence[Model]) -> dict[str, Any]:
    """All models on one page."""
    data = [anthropic_model(model) for model in models]
    return {
        "data": data,
        "has_more": False,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def gemini_model(model: Model) -> dict[str, Any]:
    """A model in the form of https://ai.google.dev/api/models."""
    methods = [method for operation in model.operations for method in _METHODS.get(operation, ())]
    return {
        "name": f"models/{model.name}",
        "baseModelId": model.name,
        "displayName": model.name,
        "inputTokenLimit": model.context_tokens,
        "outputTokenLimit": model.max_output_tokens,
        "supportedGenerationMethods": methods or list(_METHODS[chat_pb2.OPERATION_CHAT]),
    }


def subscription(budget: Budget | None) -> dict[str, Any]:
    """The old form of OpenAI's billing by which chat apps show a balance; keys that nothing bounds have a far limit.

    Args:
        budget: The hard budget that bounds the key most. Of a balance that is paid in advance what is left counts: what
            was paid in over the years is no limit of any period that an app asks for.
    """
    limit: float = _FAR
    if budget is not None:
        nanos = budget.amount_nanos - budget.spent_nanos if budget.prepaid else budget.amount_nanos
        limit = max(0, nanos) / NANO
    return {
        "object": "billing_subscription",
        "has_payment_method": True,
        "hard_limit_usd": limit,
        "soft_limit_usd": limit,
        "system_hard_limit_usd": limit,
        "access_until": int(time.time()) + 10 * 365 * 86_400,
    }


def billed(rows: Sequence[UsageRow]) -> dict[str, Any]:
    """What was charged, in cents, as the same apps expect it."""
    return {"object": "list", "total_usage": sum(row.charged_nanos for row in rows) * 100 / NANO}
