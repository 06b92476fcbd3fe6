"""Mistral AI. https://docs.mistral.ai/api/."""

from typing import Final

from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="mistral",
    base_url="https://api.mistral.ai/v1",
    key_env=("MISTRAL_API_KEY",),
    price_book="mistral",
)
