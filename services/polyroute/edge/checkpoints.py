"""What running attempts cost, written down for the case that this process dies.

When an attempt begins, what its prompt costs is put into a slot of `intents`, on this machine, which costs a call next
to nothing. Every two seconds what each has cost so far goes to the ledger as a checkpoint, so that it is known there
too. The slot is left when the call is on record; one that is found at the start was left open by the life before.
"""

import asyncio
from collections.abc import Callable, Iterable, Sized
from typing import Any, Final, Protocol

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from polyroute.api.auth.v1.auth_pb2 import Caller
from polyroute.api.auth.v1.ledger_pb2 import Settlement
from polyroute.api.chat.v1.chat_pb2 import RequestFacts
from polyroute.api.router.v1.router_pb2 import Attempt
from polyroute.edge.charging import prompt_cost
from polyroute.edge.heads import origin_of
from polyroute.edge.intents import LONGEST, Intents
from polyroute.edge.settler import CHECKPOINT_SECONDS, LOST_SECONDS, Settler
from polyroute.edge.spending import is_free
from polyroute.mesh.errors import MeshError

FEW: Final = 16  # attempts that are looked at whenever a call ends; when there are more, every two seconds

_log = structlog.get_logger("checkpoints")


class Recorded(Protocol):
    """A call.

    Attributes:
        recorded: Its record is written down.
    """

    recorded: bool


class Running(Protocol):
    """An attempt under way, as its call's trail knows it.

    Attributes:
        noted: What it costs went to the ledger while it ran.
    """

    request_id: str
    facts: RequestFacts | None
    caller: Caller | None
    admission: Any
    attempt: Attempt | None
    first_number: int
    noted: bool

    @property
    def attempts(self) -> Sized:
        """Those that are over."""

    @property
    def call(self) -> Recorded:
        """What its call's record is made of."""

    def mark(self, attempt: Attempt) -> bytes:
        """What its call is for, as a part of a settlement."""

    def so_far(self) -> tuple[bytes, Settlement] | None:
        """What it would be charged now, and what all its settlements have in common; None when that is nothing."""


class Checkpoints:
    """The attempts under way in this process.

    Args:
        settler: Keeps checkpoints.
        holder: Names this life of this process.
        wall: Seconds since the Unix epoch.
        longest: Seconds that a call can last.
        intents: Where attempts that begin are written down; None where nothing must outlive this process.
    """

    def __init__(
        self,
        settler: Settler,
        holder: str,
        wall: Callable[[], float],
        *,
        longest: float,
        intents: Intents | None = None,
    ) -> None:
        self._settler = settler
        self._holder = holder
        self._wall = wall
        self._longest = longest
        self._intents = intents
        self._running: dict[int, Running] = {}
        self._slots: dict[int, tuple[int, int]] = {}  # and numbers, of attempts for which no money is held
        self._ended: list[tuple[Recorded, int]] = []  # slots of attempts that are over; their calls, not on record yet
        self._unsettled: list[int] = []  # slots of charges that the disk did not take yet

    @property
    def running(self) -> int:
        """How many attempts are under way."""
        return len(self._running)

    def follow(self, attempt: Running) -> None:
        """An attempt begins, or the other one of two goes on.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE, it cannot be written down: it must not be made.
        """
        place = id(attempt)
        self._running[place] = attempt
        if self._intents is None or attempt.admission.paid is not None:  # what is paid for writes itself down
            return
        number = attempt.first_number + len(attempt.attempts)
        before = self._slots.get(place)
        if before is not None:
            if before[1] == number:
                return
            self._ended.append((attempt.call, before[0]))
        slot = self._written(attempt, number)
        if slot is not None:
            self._slots[place] = slot, number

    def _written(self, attempt: Running, number: int) -> int | None:
        caller, facts, tried = attempt.caller, attempt.facts, attempt.attempt
        if caller is None or facts is None or tried is None:
            return None
        tokens = facts.input_tokens_estimate
        if tried.HasField("price") and not prompt_cost(tried.price, tokens) and is_free(tried.price):
            return None
        head = self._settler.heads.caller(caller, attempt.admission.multiplier) + attempt.mark(tried)
        slot = self.begin(head, attempt.request_id, number, tried, tokens)
        attempt.noted |= slot is None
        return slot

    def forget(self, attempt: Running) -> None:
        """It has ended."""
        place = id(attempt)
        self._running.pop(place, None)
        known = self._slots.pop(place, None)
        if known is not None:
            self._ended.append((attempt.call, known[0]))

    def begin(self, head: bytes, request_id: str, number: int, attempt: Attempt, tokens: int) -> int | None:
        """Writes down that an attempt begins, with what its prompt costs; the slot, None where it went to the ledger.

        Args:
            head: What all settlements of its call have in common.
            request_id: The call.
            number: Which try.
            attempt: Where it goes.
            tokens: Of the prompt.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE, it cannot be written down: it must not be made.
        """
        said = Settlement(request_id=request_id, attempt=number)
        if attempt.HasField("price"):
            said.cost_nanos = prompt_cost(attempt.price, tokens)
        said.usage.input_tokens = tokens
        payload = head + self._settler.heads.origin(origin_of(attempt)) + said.SerializeToString()
        if self._intents is not None and len(payload) <= LONGEST:
            return self._intents.put(payload)
        self._settler.intend(payload + self._of_life())
        return None

    def leave(self, slots: Iterable[int], *, written: bool) -> None:
        """Leaves slots, once the charges of their attempts are `written`."""
        if self._intents is None:
            return
        if not written:
            self._unsettled += slots
            return
        for slot in slots:
            self._intents.free(slot)

    def tidy(self) -> None:
        """Leaves the slots of attempts whose calls are on record."""
        if self._ended and len(self._ended) <= FEW:
            self._tidy()

    def close(self) -> None:
        """Leaves every slot whose attempt is settled, however many there are."""
        self._tidy()
        if self._unsettled and not self._settler.waiting:
            unsettled, self._unsettled = self._unsettled, []
            self.leave(unsettled, written=True)

    def note(self) -> int:
        """Writes down what every attempt has cost so far; of how many."""
        self.close()
        life = self._of_life()
        noted = 0
        for attempt in list(self._running.values()):
            known = attempt.so_far()
            if known is None:
                continue
            head, settlement = known
            try:
                self._settler.intend(head + settlement.SerializeToString() + life)
            except MeshError as error:
                _log.warning("checkpoints not written", reason=error.message)  # those before them stand
                break
            noted += 1
        return noted

    async def run(self) -> None:
        """Notes for ever."""
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            self.note()
            if self._intents is not None:
                await asyncio.to_thread(self._intents.sync)

    async def take_over(self, holder: str) -> None:
        """Has everything settled that the life before of this process left open.

        Raises:
            MeshError: It cannot be now; repeating it charges nothing twice.
        """
        if self._intents is not None and self._intents.inherited:
            self._settler.inherit(self._intents.inherited.values(), holder, int(self._wall() + LOST_SECONDS))
            for slot in list(self._intents.inherited):
                self._intents.free(slot)
            self._intents.inherited.clear()
        if holder:
            await self._settler.end(holder)

    def _of_life(self) -> bytes:
        """What makes a settlement a checkpoint of this life."""
        lost_at = Timestamp(seconds=int(self._wall() + self._longest + LOST_SECONDS) + 1)
        return Settlement(checkpoint=True, holder=self._holder, expire_time=lost_at).SerializeToString()

    def _tidy(self) -> None:
        waiting = []
        for call, slot in self._ended:
            if call.recorded:
                self.leave((slot,), written=True)
            else:
                waiting.append((call, slot))
        self._ended = waiting
