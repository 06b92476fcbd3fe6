"""What a call is expected to cost at a deployment, before it is made: what prices are compared by.

Of like calls alike, so sizes are rounded up to powers of two: calls of a kind share their ranking.
"""

from collections.abc import Mapping
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import (
    OPERATION_CHAT,
    OPERATION_COMPLETION,
    OPERATION_EMBEDDING,
    OPERATION_SPEECH,
    OPERATION_TRANSCRIPTION,
)
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.mesh.pricing import in_force
from polyroute.router.catalog import Deployment
from polyroute.router.filters import Kind

UNKNOWN_TOKENS: Final = 512  # what a prompt or an answer is expected to have when nobody says
CHARACTERS_PER_TOKEN: Final = 4
# Milliseconds: of sound that is heard as models count it; of text that is spoken at 150 words a minute.
_SOUND_PER_TOKEN: Final[Mapping[int, int]] = {OPERATION_TRANSCRIPTION: 100, OPERATION_SPEECH: 300}
_WORDS: Final = frozenset({OPERATION_CHAT, OPERATION_COMPLETION, OPERATION_EMBEDDING})


def expected(kind: Kind) -> tuple[int, int]:
    """Tokens of prompt and answer that prices are compared by: powers of two, so that like calls compare alike."""
    prompt, answer = kind.prompt or UNKNOWN_TOKENS, kind.answer or UNKNOWN_TOKENS
    return 1 << (prompt - 1).bit_length(), 1 << (answer - 1).bit_length()


def price_of(deployment: Deployment, kind: Kind) -> int | None:
    """What such a call is expected to cost there, in millionths of nano-USD; None when unknown."""
    if deployment.price is None:
        return None
    prompt, answer = expected(kind)
    price = in_force(deployment.price, prompt, answer)
    cost = prompt * price.input + answer * price.output + price.request
    return cost + _beside(price, kind, prompt) if price.other else cost


def _beside(price: pb.Price, kind: Kind, prompt: int) -> int:
    """Of the units beside the tokens: what the work is made of, and one of each other kind where that is not words.

    Units of a conversation, such as searches, are up to the model; tokens of some kind are among those of the prompt.
    """
    other = 0 if kind.operation in _WORDS else 1
    units = {
        "images": kind.pictures,
        "audio_milliseconds": prompt * _SOUND_PER_TOKEN.get(kind.operation, 0),
        "input_characters": prompt * CHARACTERS_PER_TOKEN,
    }
    return sum(rate * units.get(name, 0 if name.endswith("tokens") else other) for name, rate in price.other.items())
