"""Jina AI: vectors and reranking. https://api.jina.ai/redoc."""

from typing import Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.providers.spoken import RERANK, Spoken
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="jina",
    base_url="https://api.jina.ai/v1",
    key_env=("JINA_API_KEY",),
    speaks=(Spoken(pb.OPERATION_EMBEDDING, "jina.embed", "/embeddings"), RERANK),
)
