"""The dialects by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from polyroute.dialects import openai_chat, openai_completions
from polyroute.dialects.dialect import Dialect

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType(
    {dialect.name: dialect for dialect in (openai_chat.DIALECT, openai_completions.DIALECT)}
)
