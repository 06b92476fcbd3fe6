"""Perplexity (Sonar). https://docs.perplexity.ai/api-reference/chat-completions-post.

Search context is charged beside tokens; `usage.cost` of an answer has both.
"""

from typing import Final

from polyroute.dialects.openai_chat import Options
from polyroute.providers.bills import GOES_ON
from polyroute.providers.spoken import CHAT, EMBEDDINGS
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="perplexity",
    base_url="https://api.perplexity.ai",
    tails=("/v1",),
    key_env=("PERPLEXITY_API_KEY", "PPLX_API_KEY"),
    speaks=(CHAT, EMBEDDINGS.at("/v1")),
    options={"openai.chat": Options(accepts=frozenset({"top_k"}))},
    # the page above has none of these
    models=(
        Traits(
            models=("sonar*",),
            refused=frozenset({"n", "seed", "logit_bias", "logprobs", "top_logprobs"}),
            tools=False,
            audio=False,
        ),
    ),
    recorded=frozenset({"openai.chat", "openai.embeddings"}),
    price_book="perplexity",
    bills=GOES_ON,
)
