"""Moonshot AI (Kimi). https://platform.moonshot.ai/docs/api/chat."""

from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.openai_chat import Options
from polyroute.providers.spoken import CHAT, MESSAGES
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import FaultRule, Vendor

VENDOR: Final = Vendor(
    name="moonshot",
    base_url="https://api.moonshot.ai",
    regions={"international": "https://api.moonshot.ai", "cn": "https://api.moonshot.cn"},
    tails=("/v1", "/anthropic"),
    key_env=("MOONSHOT_API_KEY",),
    # https://platform.moonshot.ai/docs/guide/agent-support
    speaks=(CHAT.at("/v1"), MESSAGES.at("/anthropic")),
    options={"openai.chat": Options(reasoning_member="reasoning_content")},
    models=(
        Traits(images="data", audio=False, files=False),
        # https://platform.moonshot.ai/docs/guide/kimi-k2-5-quickstart: fixed, "any other value will result in an error"
        Traits(
            models=("kimi-k2.[5-9]*", "kimi-k[3-9]*"),
            refused=frozenset({"temperature", "top_p", "n", "presence_penalty", "frequency_penalty"}),
        ),
    ),
    # https://platform.moonshot.ai/docs/api/errors
    faults=(
        FaultRule(errors_pb2.FAULT_QUOTA, codes=("exceeded_current_quota_error",), statuses=(429,)),
        FaultRule(errors_pb2.FAULT_SERVER, codes=("engine_overloaded_error",), statuses=(429,)),
        FaultRule(errors_pb2.FAULT_CONTEXT, r"exceeded model token limit|input token length too long", statuses=(400,)),
        FaultRule(errors_pb2.FAULT_FILTER, r"considered high risk", statuses=(400,)),
    ),
    price_book="moonshotai",
    price_books={"cn": "moonshot-cn"},
)
