"""The dialects for work other than conversation by name: `TASKS` vendors are asked in, `SPOKEN` clients speak."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from polyroute.dialects import (
    anthropic_count_tokens,
    bedrock_tasks,
    cohere_rerank,
    dashscope_images,
    dashscope_rerank,
    gemini_count_tokens,
    gemini_images,
    openai_images,
    openai_input_tokens,
    openai_moderations,
    openai_speech,
    openai_transcriptions,
    voyage_rerank,
)
from polyroute.dialects.task import TaskDialect, TaskOutbound

_SPOKEN: Final[tuple[TaskDialect, ...]] = (
    cohere_rerank.DIALECT,
    openai_images.DIALECT,
    openai_images.INLINE,
    openai_speech.DIALECT,
    openai_transcriptions.DIALECT,
    openai_transcriptions.TRANSLATIONS,
    openai_moderations.DIALECT,
    anthropic_count_tokens.DIALECT,
    gemini_count_tokens.DIALECT,
    openai_input_tokens.DIALECT,
)
_ASKED: Final[tuple[TaskOutbound, ...]] = (
    voyage_rerank.OUTBOUND,
    dashscope_rerank.OUTBOUND,
    dashscope_images.OUTBOUND,
    gemini_images.OUTBOUND,
    gemini_count_tokens.PLAIN,
    bedrock_tasks.RERANK,
    bedrock_tasks.COUNT_TOKENS,
)

SPOKEN: Final[Mapping[str, TaskDialect]] = MappingProxyType({dialect.name: dialect for dialect in _SPOKEN})
TASKS: Final[Mapping[str, TaskOutbound]] = MappingProxyType({dialect.name: dialect for dialect in (*_SPOKEN, *_ASKED)})
