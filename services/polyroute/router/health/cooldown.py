"""Leaving alone what has asked for it: a limit of rate, a spent quota, a refused credential, a model that is gone.

Each rests for as long as the vendor says, or else for a time that doubles with each refusal in a row. A key that rests
is no reason to leave its deployment alone while another key is left, and a model that is gone for embeddings none to
leave it alone with conversations: vendors answer with the same 404 whoever asks a model for what it cannot do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from polyroute.api.chat.v1.chat_pb2 import OPERATION_UNSPECIFIED, Operation
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.router.health.outcomes import Outcome

LONGEST: Final = 3600.0  # s, whatever a vendor says
ALL: Final = 0  # the number that stands for every key


@dataclass(frozen=True, slots=True)
class RestRule:
    """How long a rest is when the vendor does not say: `first`, doubling up to `most`; seconds."""

    first: float
    most: float


RULES: Final[Mapping[int, RestRule]] = {
    pb.FAULT_RATE: RestRule(1.0, 60.0),
    pb.FAULT_QUOTA: RestRule(900.0, 900.0),
    pb.FAULT_CREDENTIAL: RestRule(60.0, LONGEST),
    pb.FAULT_MODEL_GONE: RestRule(60.0, LONGEST),
}
# Of the key and not of one model: a spent quota; a refused credential unless it is the model that is forbidden to it.
_FORBIDDEN: Final = 403


class Rest(NamedTuple):
    """Why and until when something is left alone."""

    fault: Fault.ValueType
    until: float
    strikes: int


def of_provider(outcome: Outcome) -> bool:
    """Whether a fault is the whole provider's: its other deployments are asked with the same key."""
    if outcome.fault == pb.FAULT_CREDENTIAL:
        return outcome.status != _FORBIDDEN
    return outcome.fault == pb.FAULT_QUOTA


def of_operation(fault: int, operation: Operation.ValueType) -> Operation.ValueType:
    """The one operation that a fault is about; OPERATION_UNSPECIFIED when it is about all of them."""
    return operation if fault == pb.FAULT_MODEL_GONE else OPERATION_UNSPECIFIED


class Cooldown:
    """The rests of one deployment, of one operation of it, or of a provider.

    Args:
        keys: How many keys there are; at least 1.
    """

    __slots__ = ("_keys", "_rests")

    def __init__(self, keys: int = 1) -> None:
        self._keys = keys
        self._rests: dict[int, Rest] = {}

    @property
    def any(self) -> bool:
        """Whether anything rests or has rested lately."""
        return bool(self._rests)

    def rest(self, outcome: Outcome, now: float) -> None:
        """Takes in a refusal that waiting may mend."""
        rule = RULES[outcome.fault]
        number = outcome.key if self._keys > 1 else ALL
        last = self._rests.get(number, Rest(outcome.fault, now, 0))
        fresh = last.until <= now  # calls that are refused together are one refusal
        strikes = last.strikes + fresh
        seconds = outcome.retry_after
        if seconds is None:
            seconds = min(rule.first * 2.0 ** min(strikes - 1, 30), rule.most)
        until = max(now + min(max(seconds, 0.0), LONGEST), last.until)
        self._rests[number] = Rest(outcome.fault, until, strikes)

    def current(self, now: float) -> Rest | None:
        """What keeps every key from being used now; None when one may be."""
        if not self._rests:
            return None
        whole = self._rests.get(ALL)
        if whole is not None and whole.until > now:
            return whole
        resting = [rest for number, rest in self._rests.items() if number and rest.until > now]
        if len(resting) < self._keys or not resting:
            return None
        return min(resting, key=lambda rest: rest.until)

    def worked(self, key: int, now: float) -> None:
        """An attempt went well: refusals that are over no longer count."""
        for number in {ALL, key}:
            rest = self._rests.get(number)
            if rest is not None and rest.until <= now:
                del self._rests[number]

    def forget(self) -> None:
        """Somebody changed the keys: what was refused may be granted."""
        self._rests.clear()
