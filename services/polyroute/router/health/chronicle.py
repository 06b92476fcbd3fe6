"""What an operator is told of deployments: that one is ejected, is tried out, is back, or begins to rest.

Kept until somebody takes it, for nothing here writes logs; what nobody takes is forgotten, the oldest first.
"""

from collections import deque
from enum import Enum
from typing import Final, NamedTuple

from polyroute.api.chat.v1.chat_pb2 import OPERATION_UNSPECIFIED, Operation
from polyroute.router.health.breaker import Phase
from polyroute.router.health.unit import Unit

MOST: Final = 1000  # turns that wait to be taken


class What(Enum):
    """What became of a deployment; the values are the events of the log."""

    EJECTED = "deployment ejected"
    HALF_OPEN = "deployment half open"
    BACK = "deployment back"
    RESTS = "deployment rests"
    PROVIDER_RESTS = "provider rests"


class Turn(NamedTuple):
    """Something that became of a deployment, or of all deployments of a provider.

    Args:
        what: What.
        name: The deployment, or the provider.
        reason: Why: what opened the breaker, or the fault that a rest is for; empty when it is back.
        number: The number behind the reason; 0 where there is none.
        seconds: How long it will last, unless it ends early; 0 where no time ends it.
        operation: The only one that rests; OPERATION_UNSPECIFIED stands for all.
        told: Another router said so.
    """

    what: What
    name: str
    reason: str = ""
    number: float = 0.0
    seconds: float = 0.0
    operation: Operation.ValueType = OPERATION_UNSPECIFIED
    told: bool = False


class Chronicle:
    """Turns since they were last taken."""

    def __init__(self) -> None:
        self._turns: deque[Turn] = deque(maxlen=MOST)

    def add(self, turn: Turn) -> None:
        """Something came about."""
        self._turns.append(turn)

    def take(self) -> list[Turn]:
        """What came about since the last time, the oldest first."""
        taken = list(self._turns)
        self._turns.clear()
        return taken

    def see(self, unit: Unit, now: float) -> None:
        """Takes in how a deployment stands after a review; one that is bad and yet not left out is not ejected."""
        breaker = unit.breaker
        if breaker.phase is Phase.CLOSED:
            if unit.told is not None:
                unit.told = None
                self.add(Turn(What.BACK, unit.name))
            return
        stands = breaker.phase, breaker.epoch
        if not unit.out or unit.told == stands:
            return
        unit.told = stands
        if breaker.phase is Phase.OPEN:
            self.add(Turn(What.EJECTED, unit.name, breaker.reason, breaker.number, max(0.0, breaker.until - now)))
        else:
            self.add(Turn(What.HALF_OPEN, unit.name, breaker.reason, breaker.number))
