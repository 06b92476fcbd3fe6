"""Moonshot AI (Kimi). https://platform.moonshot.ai/docs/api/chat."""

from typing import Final

from polyroute.providers.vendor import CHAT_ONLY, Vendor

VENDOR: Final = Vendor(
    name="moonshot",
    base_url="https://api.moonshot.ai/v1",
    key_env=("MOONSHOT_API_KEY",),
    dialects=CHAT_ONLY,
    price_book="moonshotai",
)
