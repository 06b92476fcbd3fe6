"""How limits stand, in the headers that the clients of each API read.

OpenAI: https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers (a reset is a length of time).
Anthropic: https://docs.anthropic.com/en/api/rate-limits#response-headers (a reset is a moment). Gemini's API has no
such headers: its clients read the `RetryInfo` of a refusal.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from polyroute.edge.share import Figure

Pairs = list[tuple[bytes, bytes]]

_KINDS: Final = {"requests": b"requests", "tokens": b"tokens"}


def openai(figures: Iterable[Figure]) -> Pairs:
    """`x-ratelimit-limit-requests` and its kind."""
    found: Pairs = []
    for figure in figures:
        kind = _KINDS.get(figure.kind)
        if kind is not None:
            found.append((b"x-ratelimit-limit-" + kind, b"%d" % figure.limit))
            found.append((b"x-ratelimit-remaining-" + kind, b"%d" % figure.remaining))
            found.append((b"x-ratelimit-reset-" + kind, b"%.3fs" % figure.reset))
    return found


def anthropic(figures: Iterable[Figure]) -> Pairs:
    """`anthropic-ratelimit-requests-limit` and its kind."""
    found: Pairs = []
    for figure in figures:
        kind = _KINDS.get(figure.kind)
        if kind is not None:
            at = datetime.fromtimestamp(time.time() + figure.reset, UTC)
            prefix = b"anthropic-ratelimit-" + kind
            found.append((prefix + b"-limit", b"%d" % figure.limit))
            found.append((prefix + b"-remaining", b"%d" % figure.remaining))
            found.append((prefix + b"-reset", at.strftime("%Y-%m-%dT%H:%M:%SZ").encode()))
    return found


def none(_figures: Iterable[Figure]) -> Pairs:
    """No headers."""
    return []
