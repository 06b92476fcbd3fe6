"""Cerebras. https://inference-docs.cerebras.ai/api-reference/chat-completions."""

from typing import Final

from polyroute.dialects.openai_chat import Options
from polyroute.providers.spoken import CHAT, COMPLETIONS
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="cerebras",
    base_url="https://api.cerebras.ai/v1",
    key_env=("CEREBRAS_API_KEY",),
    speaks=(CHAT, COMPLETIONS),
    options={"openai.chat": Options(max_tokens_member="max_completion_tokens", reasoning_member="reasoning")},
    # https://inference-docs.cerebras.ai/resources/openai: "will result in a 400 error if they are supplied"
    models=(
        Traits(
            refused=frozenset({"frequency_penalty", "logit_bias", "presence_penalty", "service_tier"}),
            audio=False,
            files=False,
        ),
    ),
    recorded=frozenset({"openai.chat"}),
    price_book="cerebras",
)
