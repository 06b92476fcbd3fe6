"""Zhipu AI (GLM), in China and as Z.ai. https://docs.bigmodel.cn/api-reference/, https://docs.z.ai/api-reference."""

from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.openai_chat import Options
from polyroute.providers.spoken import (
    CHAT,
    EMBEDDINGS,
    IMAGES,
    MESSAGES,
    MODERATIONS,
    RERANK,
    SPEECH,
    TRANSCRIPTIONS,
    below,
)
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import FaultRule, Vendor

VENDOR: Final = Vendor(
    name="zhipu",
    base_url="https://open.bigmodel.cn/api",
    regions={"cn": "https://open.bigmodel.cn/api", "international": "https://api.z.ai/api"},
    tails=("/paas/v4", "/anthropic"),
    key_env=("ZHIPU_API_KEY", "ZHIPUAI_API_KEY"),
    speaks=(
        *below("/paas/v4", CHAT, EMBEDDINGS, IMAGES, RERANK, SPEECH, TRANSCRIPTIONS, MODERATIONS),
        MESSAGES.at("/anthropic"),  # https://docs.z.ai/devpack/tool/claude
    ),
    # https://docs.z.ai/guides/capabilities/thinking-mode: reasoning goes back with preserved thinking
    options={"openai.chat": Options(reasoning_member="reasoning_content")},
    # .../api-reference/llm/chat-completion: tool_choice takes `auto` only
    models=(
        Traits(refused=frozenset({"n", "logit_bias", "presence_penalty", "frequency_penalty", "parallel_tool_calls"})),
    ),
    # https://docs.z.ai/api-reference/api-code; many of them come with a status that says something else
    faults=(
        FaultRule(errors_pb2.FAULT_QUOTA, codes=("1110", "1111", "1112", "1304", "1308", "1309", "1310")),
        FaultRule(errors_pb2.FAULT_MODEL_GONE, codes=("1220", "1221", "1222", "1311")),
        FaultRule(errors_pb2.FAULT_SERVER, codes=("1120", "1230", "1234", "1305", "1312")),
        FaultRule(errors_pb2.FAULT_RATE, codes=("1302", "1303")),
    ),
    recorded=frozenset({"openai.chat"}),
    price_book="zhipuai",
    price_books={"international": "zai"},
)
