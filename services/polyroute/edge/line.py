"""Whose turn it is when more calls come than may be under way at once: a pure queue, without time and without tasks.

More critical calls come first. Within a class it is the tenant with the fewest calls under way, and of those the one
that has waited longest: whoever sends ten times as much as others waits behind their calls and not before them. What
finds no place to wait is shed: of the least critical class first, of the tenant that has most of it waiting.
"""

import heapq
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

SLACK: Final = 64  # entries of the past that a heap may hold beside those that count


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
    """Those of one class that wait.

    Which tenant is next changes with every call that begins or ends. Each change adds an entry to a heap, and entries
    that do not hold any more are skipped when they come up: a turn costs the logarithm of the number of tenants.
    """

    __slots__ = ("_heap", "_under_way", "size", "waiting")

    def __init__(self, under_way: dict[str, int]) -> None:
        self._under_way = under_way
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

    def next(self) -> Waiter:
        """Takes out whose turn it is; someone must wait."""
        while True:
            entry = heapq.heappop(self._heap)
            line = self.waiting.get(entry[2])
            if line is not None and entry == self._entry(entry[2], line):
                waiter = line[0]
                self.remove(waiter)
                return waiter

    def _entry(self, tenant: str, line: deque[Waiter]) -> tuple[int, int, str]:
        return self._under_way.get(tenant, 0), line[0].number, tenant


class Line:
    """Calls under way and calls that wait.

    Args:
        most: Calls under way at once.
        places: Calls that may wait.
    """

    def __init__(self, most: int, places: int) -> None:
        self._most = most
        self._places = places
        self._by_tenant: dict[str, int] = {}
        self._classes = [_Class(self._by_tenant) for _ in Criticality]
        self._numbers = 0
        self.under_way = 0
        self.waiting = 0

    def enter(self, tenant: str) -> bool:
        """Begins a call if it need not wait."""
        if self.under_way >= self._most:  # whoever waits has filled every free place already
            return False
        self._begin(tenant)
        return True

    def wait(self, tenant: str, criticality: Criticality) -> tuple[Waiter | None, Waiter | None]:
        """Has a call wait.

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
        return waiter, shed

    def leave(self, tenant: str) -> Waiter | None:
        """Ends a call; whose turn has come by that, which is under way from now on."""
        self.under_way -= 1
        left = self._by_tenant[tenant] - 1
        if left:
            self._by_tenant[tenant] = left
        else:
            del self._by_tenant[tenant]
        if not self.waiting:
            return None
        self._moved(tenant)
        return self._next() if self.under_way < self._most else None

    def resize(self, most: int) -> list[Waiter]:
        """Sets another bound; whose turn has come by that. What is under way goes on."""
        self._most = most
        return [self._next() for _ in range(min(self.waiting, max(0, most - self.under_way)))]

    def _next(self) -> Waiter:
        waiter = next(one for one in self._classes if one.size).next()
        self.waiting -= 1
        waiter.admitted = True
        self._begin(waiter.tenant)
        self._moved(waiter.tenant)
        return waiter

    def give_up(self, waiter: Waiter) -> None:
        """Takes a call out that waits."""
        self._classes[waiter.criticality].remove(waiter)
        self.waiting -= 1

    def _begin(self, tenant: str) -> None:
        self.under_way += 1
        self._by_tenant[tenant] = self._by_tenant.get(tenant, 0) + 1

    def _moved(self, tenant: str) -> None:
        for one in self._classes:
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
