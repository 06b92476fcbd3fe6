"""OpenAI. https://platform.openai.com/docs/api-reference."""

from typing import Final

from polyroute.dialects.openai_chat import Options
from polyroute.providers.bills import STOPS
from polyroute.providers.families import GPT, GPT_FAULTS
from polyroute.providers.spoken import (
    CHAT,
    COMPACT,
    COMPLETIONS,
    EMBEDDINGS,
    IMAGES,
    INPUT_TOKENS,
    MODERATIONS,
    RESPONSES,
    SPEECH,
    TRANSCRIPTIONS,
)
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="openai",
    base_url="https://api.openai.com/v1",
    # https://platform.openai.com/docs/guides/your-data#data-residency
    regions={"us": "https://us.api.openai.com/v1", "eu": "https://eu.api.openai.com/v1"},
    key_env=("OPENAI_API_KEY",),
    speaks=(
        CHAT,
        RESPONSES,
        COMPLETIONS,
        EMBEDDINGS,
        IMAGES,
        SPEECH,
        TRANSCRIPTIONS,
        MODERATIONS,
        COMPACT,
        INPUT_TOKENS,
    ),
    options={"openai.chat": Options(max_tokens_member="max_completion_tokens", developer_role=True)},
    models=GPT,
    faults=GPT_FAULTS,
    recorded=frozenset(
        {
            "openai.chat",
            "openai.responses",
            "openai.completions",
            "openai.embeddings",
            "openai.images",
            "openai.speech",
            "openai.transcriptions",
            "openai.moderations",
        }
    ),
    custom_tools=frozenset({"openai.chat", "openai.responses"}),
    price_book="openai",
    bills=STOPS,
)
