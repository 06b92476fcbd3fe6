"""By how much prompts turn out longer than they were estimated, as vendors count them: learned from their answers.

What is held for a call is worked out before any tokenizer saw it, and every vendor wraps messages and tools in words of
its own. An estimate that is too low for one kind of prompt is too low for all of that kind, and many calls at once
would together cost more than was held for them. So the most that was missing lately is held beside the estimate, where
there is money for it: a call whose estimate can be paid is not refused for the sake of a margin.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

SHORT: Final = 64  # tokens below which the wrapping outweighs the words: what was missing is a number of tokens
TELLING: Final = 32  # tokens from which on it is a share of them
MOST_TOKENS: Final = 32_768  # that are held beside a short prompt: a vendor that searches reads what it finds
MOST_SHARE: Final = 4.0  # of a long one: no tokenizer makes more than a token of a byte
LATELY: Final = 600.0  # s that what was missing is remembered, and up to twice that
KEPT: Final = 10_000  # deployments in memory


@dataclass(slots=True)
class _Missing:
    """The most that was missing at one deployment: in this span of time, and in the one before."""

    since: float
    tokens: int = 0
    share: float = 1.0
    former_tokens: int = 0
    former_share: float = 1.0

    def turn(self, now: float) -> None:
        """Begins another span when this one is over."""
        if now - self.since < LATELY:
            return
        recent = now - self.since < 2 * LATELY
        self.former_tokens = self.tokens if recent else 0
        self.former_share = self.share if recent else 1.0
        self.since, self.tokens, self.share = now, 0, 1.0


class Margins:
    """What to hold beside the estimates of prompts.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._missing: dict[str, _Missing] = {}

    def of(self, deployment: str, tokens: int) -> int:
        """Tokens to hold beside an estimate of so many; none where nothing is known."""
        missing = self._missing.get(deployment)
        if missing is None:
            return 0
        missing.turn(self._clock())
        if tokens < SHORT:
            return max(missing.tokens, missing.former_tokens)
        return int(tokens * (max(missing.share, missing.former_share) - 1.0) + 0.999)

    def saw(self, deployment: str, tokens: int, counted: int) -> None:
        """A prompt of so many tokens, as was estimated, was counted by its vendor."""
        missing = self._missing.get(deployment)
        if missing is None:
            if counted <= tokens:
                return
            if len(self._missing) >= KEPT:
                self._missing.pop(next(iter(self._missing)))
            missing = self._missing[deployment] = _Missing(self._clock())
        missing.turn(self._clock())
        if tokens < SHORT:
            missing.tokens = max(missing.tokens, min(MOST_TOKENS, counted - tokens))
        if tokens >= TELLING:
            missing.share = max(missing.share, min(MOST_SHARE, counted / tokens))
