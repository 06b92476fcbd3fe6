"""Whose turn it is when more calls come than may be under way at once: a pure queue, without tasks.

More critical calls come first. Within a class it is the tenant with the fewest calls under way, and of those the one
that has waited longest: whoever sends ten times as much as others waits behind their calls and not before them. It also
leaves places free for them (`polyroute.edge.headroom`), so that they need not wait at all. What finds no place to wait
is shed: of the least critical class first, of the tenant that has most of it waiting.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from polyroute.edge.headroom import Headroom

SLACK: Final = 64  # entries of the past that a heap may hold beside those that count
USED: Final = 2  # at least every second place, whatever is kept free: a guess of what others need must not cost more


class Criticality(IntEnum):
    """How much a call matters, most first."""

    CRITICAL = 0
    DEFAULT = 1
    SHEDDABLE = 2


@dataclass(slots=True, eq=False)
class Waiter:
    """One call that waits.

    Attributes:
        tenant: Whose it is.
        criticality: Its class.
        number: When it came, among all.
        admitted: Its turn has come.
        shed: It lost its place to another call.
    """

    tenant: str
    criticality: Criticality
    number: int
    admitted: bool = False
    shed: bool = False


class _Class:
    """Those of one class that wait; `room` is what tenants have under way of this class and those above it.

    Which tenant is next changes with every call that begins or ends. Each change adds an entry to a heap, and entries
    that do not hold any more are skipped when they come up: a turn costs the logarithm of the number of tenants.
    """

    __slots__ = ("_heap", "_under_way", "room", "size", "waiting")

    def __init__(self, room: Headroom) -> None:
        self.room = room
        self._under_way = room.under_way
        self._heap: list[tuple[int, int, str]] = []  # calls under way, number of the first that waits, tenant
        self.waiting: dict[str, deque[Waiter]] = {}
        self.size = 0

    def add(self, waiter: Waiter) -> None:
        """Appends one to its tenant's."""
        line = self.waiting.setdefault(waiter.tenant, deque())
        line.append(waiter)
        self.size += 1
        if len(line) == 1:
            self.moved(waiter.tenant)

    def remove(self, waiter: Waiter) -> None:
        """Takes one out, wherever it stands."""
        line = self.waiting[waiter.tenant]
        line.remove(waiter)
        self.size -= 1
        if not line:
            del self.waiting[waiter.tenant]
        self.moved(waiter.tenant)

    def moved(self, tenant: str) -> None:
        """Notes that a tenant has more or fewer calls under way, or another one at the head of its line."""
        line = self.waiting.get(tenant)
        if line is None:
            return
        heapq.heappush(self._heap, self._entry(tenant, line))
        if len(self._heap) > 2 * len(self.waiting) + SLACK:
            self._heap = [self._entry(name, queue) for name, queue in self.waiting.items()]
            heapq.heapify(self._heap)

    def first(self) -> Waiter:
        """Whose turn it is; someone must wait."""
        while True:
            entry = self._heap[0]
            line = self.waiting.get(entry[2])
            if line is not None and entry == self._entry(entry[2], line):
                return line[0]
            heapq.heappop(self._heap)

    def _entry(self, tenant: str, line: deque[Waiter]) -> tuple[int, int, str]:
        return self._under_way.get(tenant, 0), line[0].number, tenant


class Line:
    """Calls under way and calls that wait.

    Args:
        most: Calls under way at once.
        places: Calls that may wait.
        clock: Seconds, monotonic; for what is remembered of calls under way.
    """

    def __init__(self, most: int, places: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._places = places
        self._classes = [_Class(Headroom(clock)) for _ in Criticality]
        self._numbers = 0
        self.under_way = 0
        self.waiting = 0

    def enter(self, tenant: str, criticality: Criticality) -> bool:
        """Begins a call if it need not wait."""
        if not self._may(tenant, criticality):
            return False
        self.under_way += 1
        scarce = self.under_way * USED > self._most
        for one in self._classes[criticality:]:
            one.room.enter(tenant)
            if scarce:
                one.room.note()
            if one.size:
                one.moved(tenant)
        return True

    def wait(self, tenant: str, criticality: Criticality) -> tuple[Waiter | None, Waiter | None]:
        """Has a call wait; `turns` is to be asked afterwards.

        Returns:
            The call, None when it is shed; and another call that is shed in its stead.
        """
        shed = None
        if self.waiting >= self._places:
            shed = self._least(tenant, criticality)
            if shed is None:
                return None, None
            self.give_up(shed)
            shed.shed = True
        self._numbers += 1
        waiter = Waiter(tenant, criticality, self._numbers)
        self._classes[criticality].add(waiter)
        self.waiting += 1
        for one in self._classes[criticality:]:
            one.room.wait(tenant)
            one.room.note()
        return waiter, shed

    def leave(self, tenant: str, criticality: Criticality) -> list[Waiter]:
        """Ends a call; whose turn has come by that."""
        self.under_way -= 1
        for one in self._classes[criticality:]:
            one.room.end(tenant)
            if one.size:
                one.moved(tenant)
        return self.turns() if self.waiting else []

    def resize(self, most: int) -> list[Waiter]:
        """Sets another bound; whose turn has come by that. What is under way goes on."""
        self._most = most
        return self.turns()

    def turns(self) -> list[Waiter]:
        """Those whose turn has come, which are under way from now on."""
        found = []
        while self.waiting and self.under_way < self._most and (waiter := self._next()) is not None:
            self._classes[waiter.criticality].remove(waiter)
            self.waiting -= 1
            waiter.admitted = True
            self._begin(waiter.tenant, waiter.criticality)
            found.append(waiter)
        return found

    def give_up(self, waiter: Waiter) -> None:
        """Takes a call out that waits."""
        self._classes[waiter.criticality].remove(waiter)
        self.waiting -= 1
        for one in self._classes[waiter.criticality :]:
            one.room.give_up(waiter.tenant)

    def _next(self) -> Waiter | None:
        """The first of the highest class that has somebody for whom there is room; None when there is for nobody."""
        for one in self._classes:
            # of a class nobody has room for whom the first has none: what is kept free grows with what one has
            if one.size and self._may((first := one.first()).tenant, first.criticality):
                return first
        return None

    def _may(self, tenant: str, criticality: Criticality) -> bool:
        """Whether there is room for a call, beside what has to stay free."""
        free = self._most - self.under_way
        return free > 0 and free > min(self._classes[criticality].room.kept(tenant), self._most // USED)

    def _begin(self, tenant: str, criticality: Criticality) -> None:
        self.under_way += 1
        for one in self._classes[criticality:]:
            one.room.begin(tenant)
            if one.size:
                one.moved(tenant)

    def _least(self, tenant: str, criticality: Criticality) -> Waiter | None:
        """Who gives up its place for a call; None when nobody matters less."""
        worst = next((one for one in reversed(Criticality) if self._classes[one].size), None)
        if worst is None or worst < criticality:
            return None
        waiting = self._classes[worst].waiting
        own = len(waiting.get(tenant, ())) if worst == criticality else 0
        if worst == criticality and own * len(waiting) >= self._classes[worst].size:
            return None  # it has its share of the places; told without a look at every tenant
        line = max(waiting.values(), key=len)
        return line[-1] if worst > criticality or len(line) > own + 1 else None
