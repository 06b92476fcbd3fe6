"""Google Gemini by its OpenAI-compatible endpoint. https://ai.google.dev/gemini-api/docs/openai."""

from typing import Final

from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="gemini",
    base_url="https://generativelanguage.googleapis.com/v1beta/openai",
    key_env=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    price_book="google",
)
