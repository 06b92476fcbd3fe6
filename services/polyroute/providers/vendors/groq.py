"""Groq. https://console.groq.com/docs/openai."""

from typing import Final

from polyroute.providers.vendor import CHAT_ONLY, Quirks, Vendor

VENDOR: Final = Vendor(
    name="groq",
    base_url="https://api.groq.com/openai/v1",
    key_env=("GROQ_API_KEY",),
    dialects=CHAT_ONLY,
    price_book="groq",
    # the page above: "the following fields are currently not supported and will result in a 400 error"
    quirks=Quirks(drop=frozenset({"logprobs", "logit_bias", "top_logprobs"})),
)
