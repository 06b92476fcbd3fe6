"""Models and balances as each public API lists them."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.metrics.v1.metrics_pb2 import UsageRow
from polyroute.api.router.v1.router_pb2 import Model

NANO: Final = 1_000_000_000
_METHODS: Final = {
    chat_pb2.OPERATION_CHAT: ("generateContent", "streamGenerateContent", "countTokens"),
    chat_pb2.OPERATION_EMBEDDING: ("embedContent", "batchEmbedContents"),
}
_FAR: Final = 100_000_000  # a limit in USD for keys without one


def openai_model(model: Model) -> dict[str, Any]:
    """A model as OpenAI's clients expect it, with what the catalog knows beside it."""
    return {
        "id": model.name,
        "object": "model",
        "created": model.create_time,
        "owned_by": ",".join(model.providers) or "polyroute",
        "alias_of": list(model.alias_of) or None,
        "context_length": model.context_tokens or None,
        "max_output_tokens": model.max_output_tokens or None,
    }


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


def subscription() -> dict[str, Any]:
    """The old form of OpenAI's billing by which chat apps show a balance; keys without a limit have a far one."""
    return {
        "object": "billing_subscription",
        "has_payment_method": True,
        "hard_limit_usd": _FAR,
        "soft_limit_usd": _FAR,
        "system_hard_limit_usd": _FAR,
        "access_until": int(time.time()) + 10 * 365 * 86_400,
    }


def billed(rows: Sequence[UsageRow]) -> dict[str, Any]:
    """What was charged, in cents, as the same apps expect it."""
    return {"object": "list", "total_usage": sum(row.charged_nanos for row in rows) * 100 / NANO}
