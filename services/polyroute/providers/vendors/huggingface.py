"""Hugging Face Inference Providers. https://huggingface.co/docs/inference-providers/index.

The upstream id of a model may end with the provider that is to serve it (`:groq`) or a preference (`:cheapest`).
"""

from typing import Final

from polyroute.providers.bills import GOES_ON
from polyroute.providers.spoken import CHAT, RESPONSES
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="huggingface",
    base_url="https://router.huggingface.co/v1",
    key_env=("HF_TOKEN",),
    discover=False,  # the same token fetches files, and most of its holders have it for that
    speaks=(CHAT, RESPONSES),
    recorded=frozenset({"openai.chat"}),
    bills=GOES_ON,
)
