"""The embeddings dialects by name: all in which vendors are asked, and those that clients speak."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from polyroute.dialects import (
    bedrock_embed,
    cohere_embed,
    dashscope_embed,
    gemini_embeddings,
    jina_embed,
    ollama_embed,
    openai_embeddings,
    voyage_embed,
)
from polyroute.dialects.embedding import EmbeddingDialect, EmbeddingOutbound

EMBEDDINGS: Final[Mapping[str, EmbeddingOutbound]] = MappingProxyType(
    {
        dialect.name: dialect
        for dialect in (
            openai_embeddings.DIALECT,
            bedrock_embed.OUTBOUND,
            cohere_embed.OUTBOUND,
            dashscope_embed.OUTBOUND,
            gemini_embeddings.DIALECT,
            gemini_embeddings.CONTENT,
            gemini_embeddings.PREDICT,
            jina_embed.OUTBOUND,
            ollama_embed.OUTBOUND,
            voyage_embed.OUTBOUND,
        )
    }
)
SPOKEN: Final[Mapping[str, EmbeddingDialect]] = MappingProxyType(
    {dialect.name: dialect for dialect in (openai_embeddings.DIALECT, gemini_embeddings.DIALECT)}
)
