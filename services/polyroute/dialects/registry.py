"""The dialects of conversations and completions by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from polyroute.dialects import (
    anthropic_messages,
    bedrock_converse,
    cohere_chat,
    dashscope_generation,
    gemini_generate,
    ollama_chat,
    openai_chat,
    openai_compact,
    openai_completions,
    openai_responses,
    xai_grpc,
)
from polyroute.dialects.dialect import Dialect, Outbound

_BOTH: Final[tuple[Dialect, ...]] = (
    openai_chat.DIALECT,
    openai_completions.DIALECT,
    openai_responses.DIALECT,
    openai_compact.DIALECT,
    anthropic_messages.DIALECT,
    gemini_generate.DIALECT,
)
_VENDORS: Final[tuple[Outbound, ...]] = (
    bedrock_converse.OUTBOUND,
    cohere_chat.OUTBOUND,
    dashscope_generation.OUTBOUND,
    ollama_chat.OUTBOUND,
    xai_grpc.OUTBOUND,
)

# Those that clients speak.
DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType({dialect.name: dialect for dialect in _BOTH})
# Those in which vendors are asked.
OUTBOUND: Final[Mapping[str, Outbound]] = MappingProxyType({dialect.name: dialect for dialect in (*_BOTH, *_VENDORS)})
