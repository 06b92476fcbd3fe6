"""xAI. https://docs.x.ai/docs/api-reference."""

from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.openai_chat import Options
from polyroute.providers.bills import STOPS
from polyroute.providers.spoken import CHAT, IMAGES, RESPONSES
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import FaultRule, Vendor

VENDOR: Final = Vendor(
    name="xai",
    base_url="https://api.x.ai/v1",
    regions={"us-east-1": "https://us-east-1.api.x.ai/v1", "eu-west-1": "https://eu-west-1.api.x.ai/v1"},
    key_env=("XAI_API_KEY",),
    speaks=(CHAT, RESPONSES, IMAGES),
    options={"openai.chat": Options(max_tokens_member="max_completion_tokens")},
    models=(
        Traits(audio=False),
        # https://docs.x.ai/docs/guides/reasoning: those that reason refuse these, and choose their effort themselves
        Traits(
            models=("grok-4", "grok-4-0*", "grok-4-latest", "grok-code-fast-*", "grok-4*-fast-reasoning*"),
            refused=frozenset({"presence_penalty", "frequency_penalty", "stop", "reasoning_effort"}),
        ),
        Traits(models=("grok-3", "grok-3-fast*", "grok-3-latest", "grok-2*"), refused=frozenset({"reasoning_effort"})),
        Traits(models=("grok-3-mini*",), refused=frozenset({"presence_penalty", "frequency_penalty", "stop"})),
    ),
    # https://docs.x.ai/docs/key-information/debugging
    faults=(
        FaultRule(errors_pb2.FAULT_QUOTA, r"used all available credits|doesn't have any credits"),
        FaultRule(errors_pb2.FAULT_CONTEXT, r"maximum prompt length is \d+"),
    ),
    recorded=frozenset({"openai.chat", "openai.responses"}),
    price_book="x-ai",
    bills=STOPS,
)
