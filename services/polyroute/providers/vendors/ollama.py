"""An Ollama server of one's own, or ollama.com. https://docs.ollama.com/api, https://docs.ollama.com/openai."""

from typing import Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.providers.spoken import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, Spoken, below
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="ollama",
    base_url="http://127.0.0.1:11434",
    regions={"cloud": "https://ollama.com"},
    tails=("/v1", "/api"),
    key_env=("OLLAMA_API_KEY",),
    discover=False,  # the key is of ollama.com, the address of this machine
    keyless=True,
    speaks=(
        Spoken(pb.OPERATION_CHAT, "ollama.chat", "/api/chat"),
        *below("/v1", CHAT, RESPONSES, COMPLETIONS),
        MESSAGES,  # https://docs.ollama.com/api/anthropic-compatibility
        Spoken(pb.OPERATION_EMBEDDING, "ollama.embed", "/api/embed"),
        EMBEDDINGS.at("/v1"),
    ),
    # https://docs.ollama.com/openai: "Base64 encoded image", not "Image URL"
    models=(Traits(images="data", audio=False, files=False),),
    recorded=frozenset({"ollama.chat", "openai.chat", "ollama.embed", "openai.embeddings"}),
)
