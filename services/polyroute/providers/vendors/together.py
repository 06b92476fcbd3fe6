"""Together AI. https://docs.together.ai/reference/chat-completions-1."""

from typing import Final

from polyroute.dialects.openai_chat import Options
from polyroute.providers.bills import STOPS
from polyroute.providers.spoken import COMPATIBLE, IMAGES, RERANK, SPEECH, TRANSCRIPTIONS
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="together",
    base_url="https://api.together.xyz/v1",
    key_env=("TOGETHER_API_KEY",),
    speaks=(*COMPATIBLE, RERANK, IMAGES, SPEECH, TRANSCRIPTIONS),
    options={"openai.chat": Options(reasoning_member="reasoning", accepts=frozenset({"top_k"}))},
    recorded=frozenset({"openai.chat", "openai.completions", "openai.images"}),
    price_book="together",
    bills=STOPS,
)
