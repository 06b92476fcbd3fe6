"""Groq. https://console.groq.com/docs/openai."""

from typing import Final

from polyroute.dialects.openai_chat import Options
from polyroute.providers.bills import GOES_ON
from polyroute.providers.spoken import CHAT, RESPONSES, SPEECH, TRANSCRIPTIONS
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="groq",
    base_url="https://api.groq.com/openai/v1",
    key_env=("GROQ_API_KEY",),
    speaks=(CHAT, RESPONSES, SPEECH, TRANSCRIPTIONS),
    options={"openai.chat": Options(max_tokens_member="max_completion_tokens", reasoning_member="reasoning")},
    # the page above: "the following fields are currently not supported and will result in a 400 error"
    models=(Traits(refused=frozenset({"logprobs", "logit_bias", "top_logprobs"})),),
    recorded=frozenset({"openai.chat"}),
    price_book="groq",
    bills=GOES_ON,
)
