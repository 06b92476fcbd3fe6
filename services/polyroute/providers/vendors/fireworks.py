"""Fireworks AI. https://docs.fireworks.ai/api-reference/post-chatcompletions."""

from typing import Final

from polyroute.dialects.openai_chat import Options
from polyroute.providers.bills import STOPS
from polyroute.providers.spoken import COMPATIBLE, MESSAGES, RERANK, RESPONSES, below
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="fireworks",
    base_url="https://api.fireworks.ai/inference",
    tails=("/v1",),
    key_env=("FIREWORKS_API_KEY",),
    speaks=(*below("/v1", *COMPATIBLE, RESPONSES, RERANK), MESSAGES),
    options={"openai.chat": Options(reasoning_member="reasoning_content", accepts=frozenset({"top_k"}))},
    recorded=frozenset({"openai.chat"}),
    price_book="fireworks",
    bills=STOPS,
)
