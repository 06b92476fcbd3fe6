"""DeepSeek. https://api-docs.deepseek.com/."""

from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.openai_chat import Options
from polyroute.providers.bills import STOPS
from polyroute.providers.spoken import CHAT, MESSAGES, RESPONSES
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import FaultRule, Vendor

VENDOR: Final = Vendor(
    name="deepseek",
    base_url="https://api.deepseek.com",
    tails=("/v1", "/anthropic"),
    key_env=("DEEPSEEK_API_KEY",),
    # https://api-docs.deepseek.com/guides/anthropic_api
    speaks=(CHAT, RESPONSES, MESSAGES.at("/anthropic")),
    # https://api-docs.deepseek.com/guides/thinking_mode: reasoning goes back where tools are called
    options={"openai.chat": Options(reasoning_member="reasoning_content")},
    # "unknown variant `image_url`, expected `text`"
    models=(Traits(images="none", audio=False, files=False),),
    faults=(FaultRule(errors_pb2.FAULT_UNSUPPORTED, r"unknown variant `\w+`, expected `text`", statuses=(400,)),),
    recorded=frozenset({"openai.chat", "openai.responses"}),
    price_book="deepseek",
    bills=STOPS,
)
