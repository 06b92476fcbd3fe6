"""The most that a call can cost, by its plan: what is held for it before it is made.

An estimate on the safe side: by the dearest of its attempts, and by every tier of a price that may come to hold.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from polyroute.api.chat.v1.chat_pb2 import (
    CAPABILITY_TOOLS,
    OPERATION_IMAGE,
    OPERATION_SPEECH,
    OPERATION_TRANSCRIPTION,
    RequestFacts,
)
from polyroute.api.router.v1.router_pb2 import Attempt, Price
from polyroute.edge.margins import Margins
from polyroute.edge.purse import MOST
from polyroute.edge.sizes import ANSWERS
from polyroute.mesh.pricing import within_reach

MILLION: Final = 1_000_000
ANSWER_TOKENS: Final = 16_384  # held for an answer without a bound; what is not affordable is cut off
LEAST_ANSWER: Final = 16  # an answer that is cut shorter than this is not worth asking for
AUDIO_MILLISECONDS: Final = 60_000  # held for sound at least: that of an answer has a length when it is over
HEARD_PER_TOKEN: Final = 100  # milliseconds of sound that models count as a token, as the estimate of a prompt has it
CHARACTERS_PER_TOKEN: Final = 4

_REQUESTS: Final = "_requests"
_SOUNDS: Final = frozenset({OPERATION_SPEECH, OPERATION_TRANSCRIPTION})


class Bill(NamedTuple):
    """What a call can cost at the dearest of its attempts, nano-USD.

    Attributes:
        prompt: Of the prompt as it was estimated, and of the call itself.
        token: Of a million tokens of the answer.
        answer: Tokens of the answer.
        bounded: The caller gave that number.
        multiplier: What the call costs its caller is what it costs times this, in millionths.
        margin: Of what the prompt may turn out longer than it was estimated; held where there is money for it.
    """

    prompt: int
    token: int
    answer: int
    bounded: bool
    multiplier: int = MILLION
    margin: int = 0

    @property
    def needed(self) -> int:
        """The most that the call can cost."""
        return self._cost(self.prompt + self.margin, self.answer)

    @property
    def least(self) -> int:
        """What it must be able to cost, to be worth making."""
        return self.with_answer(self.answer if self.bounded else min(self.answer, LEAST_ANSWER))

    def with_answer(self, tokens: int) -> int:
        """The cost with so long an answer, if the estimate of the prompt is right."""
        return self._cost(self.prompt, tokens)

    def _cost(self, prompt: int, answer: int) -> int:
        asked = prompt - (-answer * self.token // MILLION)
        if self.multiplier != MILLION:
            asked = -(-asked * self.multiplier // MILLION)
        return min(MOST, asked)

    def affordable(self, amount: int) -> int:
        """The longest answer that `amount` pays."""
        if not self.token or not self.multiplier:
            return self.answer
        left = amount * MILLION // self.multiplier - self.prompt
        careful = (left - self.margin) * MILLION // self.token
        return min(self.answer, careful if careful >= LEAST_ANSWER else left * MILLION // self.token)


def bill_of(
    attempts: Iterable[Attempt], facts: RequestFacts, multiplier: int = MILLION, margins: Margins | None = None
) -> Bill:
    """The most that a call can cost by its plan, whose prices are known.

    Args:
        attempts: Of the plan.
        facts: Of the request.
        multiplier: See `Bill`.
        margins: What prompts were longer than estimated lately; None for nothing.
    """
    choices = facts.choices or 1
    bounded = facts.HasField("max_output_tokens") or facts.operation not in ANSWERS
    answer = facts.max_output_tokens if bounded else ANSWER_TOKENS
    searches = CAPABILITY_TOOLS in facts.needs
    prompt = token = longer = 0
    tokens = max(facts.input_tokens_estimate, facts.sound_milliseconds // HEARD_PER_TOKEN)
    for attempt in attempts:
        price = attempt.price
        margin = margins.of(attempt.deployment, tokens) if margins is not None else 0
        # a prompt may turn out longer than was estimated, and so be charged by the next tier
        for one in within_reach(price, (tokens + margin) * 5 // 4) if price.tiers else (price,):
            asked = _prompt_of(one, tokens)
            if one.other:
                asked += _beside(one, facts, searches=searches or attempt.billing.searches)
            if asked > prompt:
                prompt = asked
            if margin:
                longer = max(longer, asked + _prompt_of(one, tokens + margin) - _prompt_of(one, tokens))
            if one.output > token:
                token = one.output
            if one.reasoning > token:
                token = one.reasoning
    return Bill(prompt, token * choices, answer, bounded, multiplier, max(0, longer - prompt))


def _prompt_of(price: Price, tokens: int) -> int:
    dearest = max(price.input, price.cache_read, price.cache_write)
    return -(-(tokens * dearest + price.request) // MILLION)


def _beside(price: Price, facts: RequestFacts, *, searches: bool) -> int:
    """What units beside the tokens are likely to cost: as many as the request can tell, and one of each other kind.

    Requests of a tool that the vendor runs, such as a search, are none where the call has no tools.
    """
    tokens = facts.input_tokens_estimate
    units = {
        "images": max(1, facts.choices) if facts.operation == OPERATION_IMAGE else 0,
        "audio_milliseconds": max(AUDIO_MILLISECONDS, facts.sound_milliseconds) if facts.operation in _SOUNDS else 0,
        "input_characters": tokens * CHARACTERS_PER_TOKEN,
    }
    likely = sum(
        rate * units.get(name, tokens if name.endswith("tokens") else 1)
        for name, rate in price.other.items()
        if searches or not name.endswith(_REQUESTS)
    )
    return -(-likely // MILLION)
