"""Mistral AI. https://docs.mistral.ai/api/."""

from typing import Final

from polyroute.dialects.openai_chat import Options
from polyroute.providers.bills import GOES_ON
from polyroute.providers.spoken import CHAT, EMBEDDINGS, MODERATIONS, TRANSCRIPTIONS
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import Quirks, Vendor

VENDOR: Final = Vendor(
    name="mistral",
    base_url="https://api.mistral.ai/v1",
    key_env=("MISTRAL_API_KEY",),
    speaks=(CHAT, EMBEDDINGS, TRANSCRIPTIONS, MODERATIONS),
    # members that it does not know are refused ("Extra inputs are not permitted"); usage ends its streams unasked
    quirks=Quirks(drop=frozenset({"stream_options"}), stream_usage=False),
    options={"openai.chat": Options(stream_usage=False)},
    models=(
        Traits(
            refused=frozenset({"logit_bias", "logprobs", "top_logprobs", "user"}),
            renamed={"seed": "random_seed", "max_completion_tokens": "max_tokens"},
        ),
    ),
    recorded=frozenset({"openai.chat", "openai.embeddings", "openai.transcriptions"}),
    price_book="mistral",
    bills=GOES_ON,
)
