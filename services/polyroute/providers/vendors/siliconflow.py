"""SiliconFlow. https://docs.siliconflow.com/en/api-reference/chat-completions/chat-completions."""

from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.openai_chat import Options
from polyroute.providers.spoken import CHAT, EMBEDDINGS, INLINE_IMAGES, MESSAGES, RERANK, SPEECH, TRANSCRIPTIONS, below
from polyroute.providers.vendor import FaultRule, Vendor

VENDOR: Final = Vendor(
    name="siliconflow",
    base_url="https://api.siliconflow.cn",
    regions={"cn": "https://api.siliconflow.cn", "international": "https://api.siliconflow.com"},
    tails=("/v1",),
    key_env=("SILICONFLOW_API_KEY",),
    speaks=(*below("/v1", CHAT, EMBEDDINGS, RERANK, INLINE_IMAGES, SPEECH, TRANSCRIPTIONS), MESSAGES),
    options={"openai.chat": Options(reasoning_member="reasoning_content", accepts=frozenset({"top_k"}))},
    # https://docs.siliconflow.com/en/faqs/error-code
    faults=(FaultRule(errors_pb2.FAULT_QUOTA, r"balance is insufficient", statuses=(403,)),),
    price_book="siliconflow",
    price_books={"international": ""},
)
