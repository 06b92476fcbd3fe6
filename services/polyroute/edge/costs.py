"""What usage costs by a price: the figure that is charged, exact but for one rounding."""

from typing import Final

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.router.v1.router_pb2 import Price
from polyroute.edge.charging import plainly
from polyroute.mesh.pricing import in_force

MILLION: Final = 1_000_000

_COUNTED: Final = frozenset({"images", "audio_milliseconds"})  # units that usage has fields of their own for


def cost_of(usage: Usage, price: Price) -> int:
    """What a call costs, nano-USD, rounded to the nearest: each bucket by its own price, once."""
    if not price.tiers and not price.other:
        return plainly(usage, price)  # as nearly every price is
    prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    price = in_force(price, prompt, usage.output_tokens + usage.reasoning_tokens, usage.reasoning_tokens)
    read = price.cache_read if price.HasField("cache_read") else price.input
    write = price.cache_write if price.HasField("cache_write") else price.input
    reasoning = price.reasoning if price.HasField("reasoning") else price.output
    total = (
        usage.input_tokens * price.input
        + usage.cache_read_tokens * read
        + usage.cache_write_tokens * write
        + usage.output_tokens * price.output
        + usage.reasoning_tokens * reasoning
        + price.request
    )
    for name, rate in price.other.items():
        total += rate * (getattr(usage, name) if name in _COUNTED else usage.other.get(name, 0))
    return (total + MILLION // 2) // MILLION
