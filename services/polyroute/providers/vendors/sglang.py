"""An SGLang server of one's own. https://docs.sglang.ai/basic_usage/openai_api_completions.html."""

from typing import Final

from polyroute.dialects.openai_chat import Options
from polyroute.providers.spoken import COMPATIBLE, RERANK, RESPONSES
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="sglang",
    base_url="http://127.0.0.1:30000/v1",
    keyless=True,
    speaks=(*COMPATIBLE, RESPONSES, RERANK),
    options={"openai.chat": Options(reasoning_member="reasoning_content", accepts=frozenset({"top_k"}))},
)
