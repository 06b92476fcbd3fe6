"""OpenRouter. https://openrouter.ai/docs/api-reference/overview."""

from typing import Final

from polyroute.providers.vendor import WITH_COMPLETIONS, Vendor

VENDOR: Final = Vendor(
    name="openrouter",
    base_url="https://openrouter.ai/api/v1",
    key_env=("OPENROUTER_API_KEY",),
    dialects=WITH_COMPLETIONS,
    price_book="openrouter",
)
