"""Google Gemini by its developer API. https://ai.google.dev/api."""

from typing import Final

from polyroute.providers.bills import GOES_ON
from polyroute.providers.credentials import HeaderKey
from polyroute.providers.families import GEMINI, GOOGLE_FAULTS
from polyroute.providers.gemini_paths import COUNT, EMBED, gemini
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="gemini",
    base_url="https://generativelanguage.googleapis.com",
    tails=("/v1beta/openai", "/v1beta", "/v1"),
    key_env=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    credential=HeaderKey("x-goog-api-key", "", tokens=True),
    speaks=(*gemini("/v1beta"), EMBED.at("/v1beta"), COUNT.at("/v1beta")),
    # "Developer instruction is not enabled for models/gemma-3": https://ai.google.dev/gemma/docs/core/prompt-structure
    models=(*GEMINI, Traits(models=("gemma-3*",), system=False, tools=False)),
    faults=GOOGLE_FAULTS,
    recorded=frozenset({"gemini.generate", "gemini.count_tokens", "gemini.embed"}),
    price_book="google",
    bills=GOES_ON,
)
