"""Anthropic by its OpenAI-compatible endpoint. https://docs.anthropic.com/en/api/openai-sdk."""

from typing import Final

from polyroute.providers.vendor import CHAT_ONLY, Vendor

VENDOR: Final = Vendor(
    name="anthropic",
    base_url="https://api.anthropic.com/v1",
    key_env=("ANTHROPIC_API_KEY",),
    dialects=CHAT_ONLY,
    price_book="anthropic",
)
