"""Which part of a price holds for a call: the one rule that whoever estimates, holds or charges must share."""

from collections.abc import Iterator

from polyroute.api.router.v1.router_pb2 import Price


def in_force(price: Price, prompt_tokens: int, answer_tokens: int, reasoning_tokens: int = 0) -> Price:
    """What a call of that length is charged by: the price itself, or the last of its tiers that holds for the call.

    Args:
        price: As the plan has it.
        prompt_tokens: Of the whole prompt, cached ones included.
        answer_tokens: Of the answer, reasoning included.
        reasoning_tokens: Those of them that are reasoning.
    """
    found = price
    for tier in price.tiers:
        short = (tier.above and prompt_tokens <= tier.above) or (
            tier.answer_above and answer_tokens <= tier.answer_above
        )
        if not short and (reasoning_tokens or not tier.reasoned):
            found = tier.price
    return found


def within_reach(price: Price, prompt_tokens: int) -> Iterator[Price]:
    """What a call may be charged by whose prompt has at most so many tokens and whose answer is not known."""
    yield price
    yield from (tier.price for tier in price.tiers if prompt_tokens > tier.above or not tier.above)
