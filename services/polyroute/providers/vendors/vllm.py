"""A vLLM server of one's own. https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html."""

from typing import Final

from polyroute.dialects.openai_chat import Options
from polyroute.providers.spoken import COMPATIBLE, MESSAGES, RERANK, RESPONSES, TRANSCRIPTIONS, below
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="vllm",
    base_url="http://127.0.0.1:8000",
    tails=("/v1",),
    keyless=True,
    speaks=(*below("/v1", *COMPATIBLE, RESPONSES, RERANK, TRANSCRIPTIONS), MESSAGES),
    options={"openai.chat": Options(reasoning_member="reasoning", accepts=frozenset({"top_k"}))},
)
