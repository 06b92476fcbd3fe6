"""DeepSeek. https://api-docs.deepseek.com/."""

from typing import Final

from polyroute.providers.vendor import CHAT_ONLY, Vendor

VENDOR: Final = Vendor(
    name="deepseek",
    base_url="https://api.deepseek.com/v1",
    key_env=("DEEPSEEK_API_KEY",),
    dialects=CHAT_ONLY,
    price_book="deepseek",
)
