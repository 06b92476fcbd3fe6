"""Names close to a misspelt one, cheap enough to be asked by strangers.

`difflib` alone costs tens of microseconds per name, which a caller could turn into a load over a long catalog; so pairs
of letters in common choose the few names that it then ranks.
"""

import difflib
import heapq
from collections.abc import Iterable
from typing import Final

_SHORTLIST: Final = 24
_CUTOFF: Final = 0.6


def pairs(name: str) -> frozenset[str]:
    """The pairs of neighbouring letters of a name, case folded."""
    folded = name.casefold()
    return frozenset(folded[i : i + 2] for i in range(max(1, len(folded) - 1)))


def closest(name: str, names: Iterable[tuple[str, frozenset[str]]], count: int = 3) -> list[str]:
    """At most `count` names like `name`, best first.

    Args:
        name: What was written.
        names: What exists, each with its `pairs`.
        count: How many to give.
    """
    wanted = pairs(name)
    shortlist = heapq.nlargest(_SHORTLIST, ((len(wanted & held), known) for known, held in names))
    by_folded = {known.casefold(): known for shared, known in reversed(shortlist) if shared}
    return [by_folded[hit] for hit in difflib.get_close_matches(name.casefold(), by_folded, count, _CUTOFF)]


def hint(name: str, names: Iterable[str]) -> str:
    """`, did you mean 'x'?` for an error message; empty when nothing is close."""
    hits = closest(name, ((known, pairs(known)) for known in names), 1)
    return f", did you mean {hits[0]!r}?" if hits else ""
