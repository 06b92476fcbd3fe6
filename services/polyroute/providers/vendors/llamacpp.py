"""A llama.cpp server of one's own. https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md."""

from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.openai_chat import Options
from polyroute.providers.spoken import COMPATIBLE, MESSAGES, RERANK, RESPONSES, TRANSCRIPTIONS, below
from polyroute.providers.vendor import FaultRule, Vendor

VENDOR: Final = Vendor(
    name="llamacpp",
    base_url="http://127.0.0.1:8080",
    tails=("/v1",),
    keyless=True,
    speaks=(*below("/v1", *COMPATIBLE, RESPONSES, RERANK, TRANSCRIPTIONS), MESSAGES),
    options={"openai.chat": Options(reasoning_member="reasoning_content", accepts=frozenset({"top_k"}))},
    # it answers 500 and 501 for what the loaded model cannot do, and for requests that it does not take
    faults=(
        FaultRule(errors_pb2.FAULT_UNSUPPORTED, r"input is not supported|does not support", statuses=(500, 501)),
        FaultRule(errors_pb2.FAULT_CLIENT, r"^cannot use both|cannot make get request", statuses=(500,)),
    ),
    recorded=frozenset({"openai.chat", "openai.embeddings", "cohere.rerank"}),
)
