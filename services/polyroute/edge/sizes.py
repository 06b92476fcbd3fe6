"""How many tokens calls count against limits: before the answer is known, and after."""

from typing import Final

from polyroute.api.chat.v1.chat_pb2 import (
    OPERATION_CHAT,
    OPERATION_COMPLETION,
    OPERATION_RELAY,
    RequestFacts,
    Usage,
)

MOST: Final = 10**12  # tokens; more than any limit has
COUNTED_ANSWER: Final = 512  # of an answer without a bound, until it is known
ANSWERS: Final = frozenset({OPERATION_CHAT, OPERATION_COMPLETION, OPERATION_RELAY})


def tokens_of(facts: RequestFacts) -> int:
    """What a call counts against limits of tokens before its answer is known."""
    answer = 0
    if facts.HasField("max_output_tokens"):
        answer = facts.max_output_tokens
    elif facts.operation in ANSWERS:
        answer = COUNTED_ANSWER
    return min(MOST, max(1, facts.input_tokens_estimate + answer * max(1, facts.choices)))


def tokens_in(usage: Usage) -> int:
    """What it counted in the end."""
    counted = (
        usage.input_tokens
        + usage.cache_read_tokens
        + usage.cache_write_tokens
        + usage.output_tokens
        + usage.reasoning_tokens
    )
    return min(MOST, max(0, counted))
