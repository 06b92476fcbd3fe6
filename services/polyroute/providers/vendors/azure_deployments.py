"""Azure OpenAI by deployment and dated API version, for resources without the v1 API.

https://learn.microsoft.com/en-us/azure/ai-services/openai/reference. The upstream id of a model is the name of the
deployment, which stands in the path.
"""

from typing import Final

from polyroute.dialects.openai_chat import Options
from polyroute.providers.bills import FILTERS
from polyroute.providers.credentials import HeaderKey
from polyroute.providers.families import GPT, GPT_FAULTS
from polyroute.providers.spoken import CHAT, COMPLETIONS, EMBEDDINGS, IMAGES, SPEECH, TRANSCRIPTIONS, below
from polyroute.providers.vendor import Setting, Vendor

VENDOR: Final = Vendor(
    name="azure_deployments",
    base_url="https://{resource}.openai.azure.com",
    tails=("/openai",),
    settings={
        "resource": Setting(env=("AZURE_RESOURCE_NAME",)),
        "api_version": Setting(env=("OPENAI_API_VERSION",), default="2024-10-21"),  # the newest that is no preview
    },
    credential=HeaderKey("api-key", "", tokens=True),
    query={"api-version": "{api_version}"},
    discover=False,
    speaks=below(
        "/openai/deployments/{model}",
        CHAT,
        COMPLETIONS,
        EMBEDDINGS,
        IMAGES,
        SPEECH,
        TRANSCRIPTIONS,
    ),
    # a deployment may be of any model: the older name of the bound is known to those that are not told by their name
    options={"openai.chat": Options()},
    models=GPT,
    faults=GPT_FAULTS,
    recorded=frozenset({"openai.chat", "openai.embeddings"}),
    custom_tools=frozenset({"openai.chat", "openai.responses"}),
    price_book="azure",
    own_models=True,
    bills=FILTERS,
)
