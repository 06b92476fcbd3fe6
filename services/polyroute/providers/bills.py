"""What vendors bill of answers that did not come whole, as far as somebody has said so.

Of a vendor that is not named here nothing is known: what it has sent is charged, and nothing where it has sent nothing.
"""

from typing import Final

from polyroute.api.router.v1.router_pb2 import (
    BILLED_PART_DELIVERED,
    BILLED_PART_PROMPT,
    BILLED_PART_WHOLE,
    Billing,
)

# Models that search the web whether or not they are asked to, and bill each search, under whatever name a vendor or an
# aggregator has for them: https://platform.openai.com/docs/guides/tools-web-search?api-mode=chat ("chat completions"),
# https://docs.perplexity.ai/getting-started/pricing
SEARCHING: Final = ("*search*", "*sonar*")
_STREAMS: Final = "https://openrouter.ai/docs/api-reference/streaming"  # which vendors stop when a stream is closed

STOPS: Final = Billing(disconnect=BILLED_PART_DELIVERED, source=_STREAMS)
"""Work and billing stop when a stream is closed."""

GOES_ON: Final = Billing(disconnect=BILLED_PART_WHOLE, source=_STREAMS)
"""The answer is made, and billed, to its end, whoever reads it."""

FILTERS: Final = Billing(
    disconnect=BILLED_PART_DELIVERED,
    refusal=BILLED_PART_PROMPT,
    source="https://learn.microsoft.com/azure/ai-services/openai/how-to/manage-costs",
)
"""As STOPS; and a prompt that a content filter refuses was read, and is billed."""


def told(bills: Billing) -> Billing:
    """The same as the router is told it: with the models that search unasked, wherever they run."""
    found = Billing(searching=SEARCHING)
    found.MergeFrom(bills)
    return found


def drained(bills: Billing) -> Billing:
    """The same of an account whose answers are read to their end when the caller leaves."""
    changed = Billing(drain=True)
    changed.MergeFrom(bills)
    return changed
