"""How many calls an edge may have under way, judged by how late its loop is: more while it keeps up, fewer when not.

A rule as TCP has for what it sends (RFC 5681): the bound doubles while nothing was ever wrong, grows by a little
afterwards, and is cut when the loop is late. It moves only when it matters: a bound that nobody reaches says nothing of
what would be too many. Pure: a sampler tells it what it saw, and when a window is over.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from polyroute.edge.turnstile import Turnstile

FIRST: Final = 256  # calls at once to begin with; an edge process has one core
LEAST: Final = 16  # below it, whatever is slow is not the number of calls
MOST: Final = 100_000
LATE_SECONDS: Final = 0.1  # of the loop: what callers begin to notice
SAMPLE_SECONDS: Final = 0.05
WINDOW_SECONDS: Final = 0.5
SAMPLES: Final = 3  # in a window at least: of one alone nobody knows whether it was a hiccup
CUT: Final = 0.8  # of what was under way when the loop was late
STEP: Final = 1 / 16  # of the bound: what it grows by in a window, once it was cut
FULL: Final = 0.9  # of the bound under way: it binds


class Pressure:
    """The bound, window by window.

    Args:
        first: Calls at once to begin with.
    """

    def __init__(self, first: int = FIRST) -> None:
        self.most = first
        """The bound now."""
        self._cut = False  # ever
        self._lag = self._second = 0.0  # the two longest of this window
        self._peak = 0

    def saw(self, lag: float, under_way: int) -> None:
        """Takes a sample.

        Args:
            lag: Seconds that the loop was late.
            under_way: Calls at this moment.
        """
        if lag > self._lag:
            self._lag, self._second = lag, self._lag
        elif lag > self._second:
            self._second = lag
        self._peak = max(self._peak, under_way)

    def judged(self, *, waiting: bool) -> int:
        """Ends a window; the bound from now on.

        Args:
            waiting: Calls wait for their turn.
        """
        late, peak = self._second > LATE_SECONDS, self._peak  # once is a hiccup, such as a collection of garbage
        self._lag = self._second = 0.0
        self._peak = 0
        if late and peak > LEAST:
            self._cut = True
            self.most = max(LEAST, int(min(self.most, peak) * CUT))
        elif not late and (waiting or peak >= self.most * FULL):
            grown = self.most + max(1, int(self.most * STEP)) if self._cut else self.most * 2
            self.most = min(MOST, grown)
        return self.most


class Sampler:
    """Watches the loop and moves a turnstile's bound.

    Args:
        turnstile: Whose.
        pressure: Judges.
        clock: Seconds, monotonic: the loop's.
    """

    def __init__(self, turnstile: Turnstile, pressure: Pressure, clock: Callable[[], float]) -> None:
        self._turnstile = turnstile
        self._pressure = pressure
        self._clock = clock

    async def run(self) -> None:
        """Watches for ever."""
        window, seen = self._clock() + WINDOW_SECONDS, 0
        while True:
            due = self._clock() + SAMPLE_SECONDS
            await asyncio.sleep(SAMPLE_SECONDS)
            now = self._clock()
            self._pressure.saw(max(0.0, now - due), self._turnstile.under_way)
            seen += 1
            if now >= window and seen >= SAMPLES:
                window, seen = now + WINDOW_SECONDS, 0
                self._turnstile.resize(self._pressure.judged(waiting=self._turnstile.waiting > 0))
