"""Google Vertex AI: Gemini, and Claude by Anthropic's own format with the model in the path.

https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference;
https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai. A key is a service account's JSON or the path
of its file; without one the machine's own credentials are used.
"""

from dataclasses import replace
from typing import Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.dialects.anthropic.common import Options
from polyroute.providers.bills import GOES_ON
from polyroute.providers.credentials import GoogleKey
from polyroute.providers.families import CLAUDE, CLAUDE_FAULTS, GEMINI, GOOGLE_FAULTS
from polyroute.providers.gemini_paths import COUNT_PLAIN, EMBED_CONTENT, PREDICT, gemini
from polyroute.providers.spoken import Spoken
from polyroute.providers.traits import Edit, Traits
from polyroute.providers.vendor import Setting, Vendor

_PLACE: Final = "/v1/projects/{project}/locations/{region}/publishers"
_VERSION: Final = "vertex-2023-10-16"
_CLAUDE: Final = f"{_PLACE}/anthropic/models/{{model}}"
_GOOGLE: Final = f"{_PLACE}/google"

# what texts are for is said in the texts: https://ai.google.dev/gemini-api/docs/embeddings
_TOLD_IN_TEXT: Final = Traits(models=EMBED_CONTENT.models, options={"gemini.embed_content": {"task_types": False}})

VENDOR: Final = Vendor(
    name="vertex",
    base_url="https://{region}-aiplatform.googleapis.com",
    regions={
        "global": "https://aiplatform.googleapis.com",
        # https://docs.cloud.google.com/vertex-ai/generative-ai/docs/learn/locations
        "us": "https://aiplatform.us.rep.googleapis.com",
        "eu": "https://aiplatform.eu.rep.googleapis.com",
    },
    tails=("/v1", "/v1beta1"),
    settings={
        "project": Setting(env=("GOOGLE_CLOUD_PROJECT",)),
        "region": Setting(env=("GOOGLE_CLOUD_LOCATION",), default="global"),
    },
    key_env=("GOOGLE_APPLICATION_CREDENTIALS",),
    discover=False,  # most machines with such credentials have them for other work
    credential=GoogleKey(),
    speaks=(
        Spoken(
            pb.OPERATION_CHAT,
            "anthropic.messages",
            f"{_CLAUDE}:rawPredict",
            f"{_CLAUDE}:streamRawPredict",
            models=("claude-*",),
            edit=Edit(drop=frozenset({"model"}), put={"anthropic_version": f'"{_VERSION}"'.encode()}),
        ),
        *gemini(_GOOGLE, but=("claude-*",)),
        EMBED_CONTENT.at(_GOOGLE),
        replace(PREDICT.at(_GOOGLE), but=EMBED_CONTENT.models),
        COUNT_PLAIN.at(_GOOGLE),
    ),
    models=(*CLAUDE, *GEMINI, _TOLD_IN_TEXT),
    options={"anthropic.messages": Options(body_version=_VERSION)},
    faults=(*CLAUDE_FAULTS, *GOOGLE_FAULTS),
    recorded=frozenset({"gemini.generate", "gemini.count_tokens_plain", "anthropic.messages"}),
    price_book="google",
    bills=GOES_ON,
)
