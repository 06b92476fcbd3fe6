"""An LM Studio server of one's own. https://lmstudio.ai/docs/developer/openai-compat."""

from typing import Final

from polyroute.dialects.openai_chat import Options
from polyroute.providers.spoken import COMPATIBLE, MESSAGES, RESPONSES, below
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="lmstudio",
    base_url="http://127.0.0.1:1234",
    tails=("/v1",),
    keyless=True,
    speaks=(*below("/v1", *COMPATIBLE, RESPONSES), MESSAGES),
    options={"openai.chat": Options(reasoning_member="reasoning_content", accepts=frozenset({"top_k"}))},
    models=(Traits(images="data"),),  # https://lmstudio.ai/docs/developer/openai-compat/chat-completions
    recorded=frozenset({"openai.responses"}),
)
