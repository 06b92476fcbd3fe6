"""Counts over the last seconds, in rings of one slot per second: memory does not grow with what is counted."""


class Counter:
    """How many there were in the last seconds, to within one.

    Args:
        seconds: How many seconds.
    """

    __slots__ = ("_at", "_ring", "_total")

    def __init__(self, seconds: int) -> None:
        self._ring = [0] * seconds
        self._at = 0
        self._total = 0

    def add(self, now: float) -> None:
        """Counts one."""
        at = int(now)
        if at != self._at:
            self._roll(at)
        self._ring[at % len(self._ring)] += 1
        self._total += 1

    def read(self, now: float) -> int:
        """How many there are."""
        self._roll(int(now))
        return self._total

    def _roll(self, at: int) -> None:
        ring = self._ring
        for passed in range(max(self._at + 1, at - len(ring) + 1), at + 1):
            slot = passed % len(ring)
            self._total -= ring[slot]
            ring[slot] = 0
        self._at = max(self._at, at)


class Waiting:
    """What is under way, by the second in which it began: how much of it began long ago is one short sum.

    Args:
        seconds: How far back the seconds are told apart.
    """

    __slots__ = ("_at", "_old", "_ring", "total")

    def __init__(self, seconds: int = 64) -> None:
        self._ring = [0] * seconds
        self._old = 0
        self._at = 0
        self.total = 0

    def add(self, now: float) -> None:
        """One begins."""
        second = int(now)
        if second != self._at:
            self._roll(second)
        self._ring[second % len(self._ring)] += 1
        self.total += 1

    def remove(self, began: float, now: float) -> None:
        """One that began at `began` is over."""
        second = int(now)
        if second != self._at:
            self._roll(second)
        self.total -= 1
        if self._at - int(began) >= len(self._ring):
            self._old -= 1
        else:
            self._ring[int(began) % len(self._ring)] -= 1

    def older(self, seconds: float, now: float) -> int:
        """How many began more than that many seconds ago, to within a second."""
        self._roll(int(now))
        size = len(self._ring)
        young = min(int(seconds) + 1, size)
        return self.total - sum(self._ring[(self._at - back) % size] for back in range(young))

    def _roll(self, second: int) -> None:
        size = len(self._ring)
        for passed in range(max(self._at + 1, second - size + 1), second + 1):
            slot = passed % size
            self._old += self._ring[slot]
            self._ring[slot] = 0
        self._at = max(self._at, second)
