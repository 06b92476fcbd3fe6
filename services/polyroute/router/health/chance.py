"""Chance that can be repeated: the same call gets the same number for the same purpose."""

import hashlib
from collections.abc import Sequence
from typing import Final

_UNIT: Final = 2.0**-64


def chance(request_id: str, purpose: str) -> float:
    """A number from 0 to below 1."""
    digest = hashlib.blake2b(f"{request_id}\0{purpose}".encode(), digest_size=8).digest()
    return min(int.from_bytes(digest, "little") * _UNIT, 1 - 2**-53)


def explorer(request_id: str, stale: Sequence[str], share: float) -> str:
    """Which deployment a call is given to, to learn its figures; empty for all but the share of calls that explores.

    Args:
        request_id: The call.
        stale: The deployments whose figures are stale or missing.
        share: Of calls, from 0 to 1: the budget.
    """
    if not stale or share <= 0:
        return ""
    number = chance(request_id, "explore")
    # the part of the unit below the share is as even as the whole
    return stale[min(int(number / share * len(stale)), len(stale) - 1)] if number < share else ""
