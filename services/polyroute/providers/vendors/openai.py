"""OpenAI. https://platform.openai.com/docs/api-reference."""

from typing import Final

from polyroute.providers.vendor import WITH_COMPLETIONS, Vendor

VENDOR: Final = Vendor(
    name="openai",
    base_url="https://api.openai.com/v1",
    key_env=("OPENAI_API_KEY",),
    dialects=WITH_COMPLETIONS,
    price_book="openai",
)
