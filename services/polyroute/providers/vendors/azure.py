"""Azure OpenAI and the models of Microsoft Foundry, by the v1 API and, for what it lacks, by deployment.

https://learn.microsoft.com/en-us/azure/foundry/openai/api-version-lifecycle. Keys go into `api-key`, Microsoft Entra
tokens into `authorization`. The upstream id of a model is the name of the deployment.
"""

from dataclasses import replace
from typing import Final

from polyroute.dialects.openai_chat import Options
from polyroute.providers.bills import FILTERS
from polyroute.providers.credentials import HeaderKey
from polyroute.providers.families import CLAUDE, GPT, GPT_FAULTS
from polyroute.providers.spoken import CHAT, COMPACT, EMBEDDINGS, IMAGES, MESSAGES, RESPONSES, SPEECH, TRANSCRIPTIONS
from polyroute.providers.vendor import Setting, Vendor

# https://learn.microsoft.com/en-us/azure/foundry/foundry-models/how-to/use-foundry-models-claude
_CLAUDE: Final = replace(MESSAGES.at("/anthropic"), models=("claude-*",))
_DEPLOYMENT: Final = "/openai/deployments/{model}"
_DATED: Final = "?api-version={api_version}"

VENDOR: Final = Vendor(
    name="azure",
    base_url="https://{resource}.openai.azure.com",
    tails=("/openai/v1", "/openai"),
    settings={
        "resource": Setting(env=("AZURE_RESOURCE_NAME",)),
        "api_version": Setting(env=("OPENAI_API_VERSION",), default="2025-04-01-preview"),
    },
    key_env=("AZURE_OPENAI_API_KEY",),
    url_env=("AZURE_OPENAI_ENDPOINT",),
    credential=HeaderKey("api-key", "", tokens=True),
    speaks=(
        _CLAUDE,
        *(replace(one.at("/openai/v1"), but=_CLAUDE.models) for one in (CHAT, RESPONSES, EMBEDDINGS, COMPACT)),
        # pictures and sound are found by deployment only:
        # https://learn.microsoft.com/en-us/azure/ai-services/openai/reference-preview
        *(replace(one, path=f"{one.at(_DEPLOYMENT).path}{_DATED}") for one in (IMAGES, SPEECH, TRANSCRIPTIONS)),
    ),
    options={"openai.chat": Options(max_tokens_member="max_completion_tokens", developer_role=True)},
    models=(*GPT, *CLAUDE),
    faults=GPT_FAULTS,
    recorded=frozenset({"openai.chat", "openai.responses", "openai.embeddings", "anthropic.messages"}),
    custom_tools=frozenset({"openai.chat", "openai.responses"}),
    price_book="azure",
    own_models=True,
    bills=FILTERS,
)
