"""What an edge counts of its calls for itself: those under way, and those that a limit refused.

Plain numbers that only the event loop's thread changes: a call pays for two additions.
"""

from collections.abc import Mapping
from typing import Final

from polyroute.api.errors.v1.errors_pb2 import REASON_RATE_LIMITED
from polyroute.edge.trail import Trail

ADDRESS: Final = "address"  # of too many wrong credentials
OTHER: Final = "other"
# What a limit binds, by the first letters of the id that a refusal names: never the id itself.
SCOPES: Final[Mapping[str, str]] = {
    "key": "key",
    "prj": "project",
    "acc": "account",
    "sub": "plan",
    "installation": "installation",
    "deployment": "deployment",
    "catalog": "deployment",
    "": ADDRESS,
}


class Tally:
    """Counts calls.

    Attributes:
        under_way: Calls that have begun and not ended.
        limited: What the limit binds -> calls that it refused.
    """

    def __init__(self) -> None:
        self.under_way = 0
        self.limited: dict[str, int] = dict.fromkeys((*SCOPES.values(), OTHER), 0)

    def began(self) -> None:
        """A call begins."""
        self.under_way += 1

    def ended(self, trail: Trail) -> None:
        """A call is over."""
        self.under_way -= 1
        if trail.reason == REASON_RATE_LIMITED:
            self.limited[SCOPES.get(trail.limit.partition("_")[0], OTHER)] += 1
