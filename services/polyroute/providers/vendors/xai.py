"""xAI. https://docs.x.ai/docs/api-reference."""

from typing import Final

from polyroute.providers.vendor import CHAT_ONLY, Vendor

VENDOR: Final = Vendor(
    name="xai",
    base_url="https://api.x.ai/v1",
    key_env=("XAI_API_KEY",),
    dialects=CHAT_ONLY,
    price_book="x-ai",
)
