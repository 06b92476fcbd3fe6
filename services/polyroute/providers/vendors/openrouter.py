"""OpenRouter. https://openrouter.ai/docs/api-reference/overview."""

from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.openai_chat import Options
from polyroute.providers.bills import GOES_ON
from polyroute.providers.spoken import COMPATIBLE, MESSAGES, RERANK, RESPONSES, TRANSCRIPTIONS, below
from polyroute.providers.vendor import FaultRule, Vendor

VENDOR: Final = Vendor(
    name="openrouter",
    base_url="https://openrouter.ai/api",
    regions={"eu": "https://eu.openrouter.ai/api"},
    tails=("/v1",),
    key_env=("OPENROUTER_API_KEY",),
    speaks=(*below("/v1", *COMPATIBLE, RESPONSES, RERANK, TRANSCRIPTIONS), MESSAGES),
    # https://openrouter.ai/docs/use-cases/reasoning-tokens
    options={
        "openai.chat": Options(
            developer_role=True,
            reasoning_member="reasoning",
            accepts=frozenset({"top_k", "reasoning", "cache_control"}),
        )
    },
    # https://openrouter.ai/docs/api-reference/errors
    faults=(
        FaultRule(errors_pb2.FAULT_UNSUPPORTED, r"no endpoints found (?:that support|matching)", statuses=(404,)),
        FaultRule(errors_pb2.FAULT_FILTER, r"requires moderation", statuses=(403,)),
        FaultRule(errors_pb2.FAULT_QUOTA, r"key limit exceeded|free-models-per-day", statuses=(403, 429)),
    ),
    recorded=frozenset(
        {"openai.chat", "openai.responses", "openai.embeddings", "openai.transcriptions", "cohere.rerank"}
    ),
    price_book="openrouter",
    bills=GOES_ON,
)
