"""Anthropic. https://platform.claude.com/docs/en/api/messages."""

from typing import Final

from polyroute.providers.bills import STOPS
from polyroute.providers.credentials import HeaderKey
from polyroute.providers.families import CLAUDE, CLAUDE_FAULTS
from polyroute.providers.spoken import COUNT_MESSAGES, MESSAGES, VERSION
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="anthropic",
    base_url="https://api.anthropic.com",
    tails=("/v1",),
    key_env=("ANTHROPIC_API_KEY",),
    credential=HeaderKey("x-api-key", ""),
    headers=VERSION,
    speaks=(MESSAGES, COUNT_MESSAGES),
    models=CLAUDE,
    faults=CLAUDE_FAULTS,
    recorded=frozenset({"anthropic.messages", "anthropic.count_tokens"}),
    price_book="anthropic",
    bills=STOPS,
)
