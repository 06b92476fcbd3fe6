"""The keys of one account: used in turn, and set aside while a vendor refuses them.

A key that is refused rests for a time that doubles with each refusal in a row; one whose rate is limited rests for as
long as the vendor says. What a single model is refused (403, 429) is held against that key for that model only, so that
a caller who asks for a model he may not have takes nothing from the others.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import structlog

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.mesh.errors import MeshError
from polyroute.providers.credentials import Presented

_log = structlog.get_logger("providers")

OTHER_KEYS: Final = "other_keys"  # metadata of an error, for whoever tries again
LONGEST: Final = 3600.0  # s that a key rests at most, whatever a vendor says
MOST_RESTS: Final = 4096  # kept at a time; models are named by callers
_EVERY_MODEL: Final = ""
_OF_A_MODEL: Final = frozenset({"403", "429"})  # statuses that may be about the model rather than the key


@dataclass(frozen=True)
class _Rule:
    """How long a key rests after a fault, when the vendor does not say: `first`, doubling up to `most`; seconds."""

    first: float
    most: float
    word: str


# In the order in which a fault that is common to all keys is told: the one that passes soonest first.
_RULES: Final = {
    pb.FAULT_RATE: _Rule(1.0, 60.0, "are limited in their rate"),
    pb.FAULT_QUOTA: _Rule(900.0, 900.0, "have no quota left"),
    pb.FAULT_CREDENTIAL: _Rule(60.0, LONGEST, "were refused"),
}


@dataclass(frozen=True, eq=False)
class Key:
    """One credential of an account.

    Attributes:
        number: Its place among them, from 1: what logs may say of it.
        presented: How requests carry it.
        mark: Its fingerprint, the same in every process that has it; see `fingerprint`.
    """

    number: int
    presented: Presented
    mark: bytes = b""


def fingerprint(secret: str) -> bytes:
    """Tells a vendor's key from others of its account, in 8 bytes.

    It is for the mesh alone: of a key that can be guessed it would tell whether a guess is right.
    """
    return blake2b(secret.encode("utf-8", "surrogatepass"), digest_size=8, person=b"polyroute.key").digest()


@dataclass(slots=True)
class _Rest:
    """Why and until when a key is set aside."""

    fault: Fault.ValueType
    until: float
    strikes: int


class KeyRing:
    """The keys of an account and how each of them is.

    Args:
        owner: The account's name, for errors and logs.
        keys: At least one.
        clock: Seconds that only grow.
    """

    def __init__(self, owner: str, keys: Sequence[Key], clock: Callable[[], float] = time.monotonic) -> None:
        self._owner = owner
        self._keys = tuple(keys)
        self._clock = clock
        self._turn = itertools.cycle(self._keys)
        self._rests: dict[tuple[Key, str], _Rest] = {}

    def __iter__(self) -> "itertools.chain[Key]":
        """The keys."""
        return itertools.chain(self._keys)

    def next(self, model: str = "") -> Key:
        """The next key that may be used for a model.

        Raises:
            MeshError: FAULT_RATE, FAULT_QUOTA or FAULT_CREDENTIAL when all are set aside, and when the first is back.
        """
        if not self._rests:
            return next(self._turn)
        now = self._clock()
        for _ in self._keys:
            key = next(self._turn)
            if self._resting(key, model, now) is None:
                return key
        raise self._nobody(self._keys, model, now)

    def pinned(self, mark: bytes, model: str = "") -> Key:
        """The one key that made what a request refers to.

        Raises:
            MeshError: REASON_NOT_FOUND when the account has it no more; FAULT_RATE, FAULT_QUOTA or FAULT_CREDENTIAL
                when it is set aside, and when it is back.
        """
        key = next((one for one in self._keys if one.mark == mark), None)
        if key is None:
            raise MeshError(
                pb.REASON_NOT_FOUND,
                f"what the request refers to was made with a key that {self._owner} has no more",
                metadata={"resource": self._owner},
            )
        now = self._clock()
        if self._resting(key, model, now) is not None:
            raise self._nobody([key], model, now)
        return key

    def _resting(self, key: Key, model: str, now: float) -> _Rest | None:
        """The longer of the rests that keep a key from a model."""
        found = [
            rest for place in {_EVERY_MODEL, model} if (rest := self._rests.get((key, place))) and rest.until > now
        ]
        return max(found, key=lambda rest: rest.until, default=None)

    def _nobody(self, keys: Sequence[Key], model: str, now: float) -> MeshError:
        rests = [rest for key in keys if (rest := self._resting(key, model, now))]
        fault = next(fault for fault in _RULES if any(rest.fault == fault for rest in rests))
        back = min(rest.until for rest in rests if rest.fault == fault)
        text = f"{self._owner}: its keys {_RULES[fault].word}"
        return MeshError.upstream(fault, text, retry_after=back - now, cause="keys")

    def report(self, key: Key, error: MeshError | None, model: str = "", *, pinned: bool = False) -> None:
        """What became of an attempt with a key: it worked, or failed in a way that may be the key's fault.

        Args:
            key: The key.
            error: What went wrong; None when nothing did.
            model: The model's upstream id.
            pinned: No other key could have done it.
        """
        if error is None:
            if self._rests:
                self._forgive(key, model)
            return
        rule = _RULES.get(error.fault)
        if rule is None or error.metadata.get("cause") == "keys":
            return
        of_model = error.fault == pb.FAULT_RATE or error.metadata.get("upstream_status") in _OF_A_MODEL
        self._set_aside((key, model if of_model else _EVERY_MODEL), error, rule)
        now = self._clock()
        if not pinned and any(self._resting(one, model, now) is None for one in self._keys):
            error.metadata[OTHER_KEYS] = "true"  # another try may follow at once, by another key

    def _forgive(self, key: Key, model: str) -> None:
        """Ends what is over; a success that began before a refusal says nothing about it."""
        now = self._clock()
        for place in {_EVERY_MODEL, model}:
            rest = self._rests.get((key, place))
            if rest is not None and rest.until <= now:
                del self._rests[key, place]

    def _set_aside(self, place: tuple[Key, str], error: MeshError, rule: _Rule) -> None:
        now = self._clock()
        rest = self._rests.pop(place, _Rest(error.fault, now, 0))
        fresh = rest.until <= now  # calls that fail together are one refusal
        strikes = rest.strikes + fresh
        seconds = error.retry_after
        if seconds is None:
            seconds = min(rule.first * 2.0 ** min(strikes - 1, 30), rule.most)
        until = max(now + min(seconds, LONGEST), rest.until)
        self._make_room(now)
        self._rests[place] = _Rest(error.fault, until, strikes)
        if fresh:
            self._say(place, error.fault, until - now)

    def _say(self, place: tuple[Key, str], fault: Fault.ValueType, seconds: float) -> None:
        _log.warning(
            "key set aside",
            provider=self._owner,
            key_number=place[0].number,
            fault=Fault.Name(fault),
            seconds=round(seconds, 3),
        )

    def _make_room(self, now: float) -> None:
        if len(self._rests) < MOST_RESTS:
            return
        self._rests = {place: rest for place, rest in self._rests.items() if rest.until > now}
        while len(self._rests) >= MOST_RESTS:
            del self._rests[next(iter(self._rests))]  # the one that was set first
