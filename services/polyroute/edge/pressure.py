"""How many calls an edge may have under way, judged by how late its loop is: more while it keeps up, fewer when not.

A rule as TCP has for what it sends (RFC 5681): the bound doubles while nothing was ever wrong and the loop mostly has
nothing to do, grows by a little otherwise, and is cut when the loop is late by what this process does. On a machine
that does other things as well the loop is late however few calls there are: then there are to be no more than there are
now. It grows only when it matters: a bound that nobody reaches says nothing of what would be too many. Pure: a sampler
tells it what it saw, and when a window is over.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from polyroute.edge.turnstile import Turnstile

FIRST: Final = 64  # calls at once to begin with: a call that costs ten milliseconds is one too many soon
LEAST: Final = 16  # below it, whatever is slow is not the number of calls
MOST: Final = 100_000
LATE_SECONDS: Final = 0.1  # of the loop: what callers begin to notice
IDLE_SECONDS: Final = 0.02  # later than that is no loop that waits for work
SAMPLE_SECONDS: Final = 0.05
WINDOW_SECONDS: Final = 0.5
SAMPLES: Final = 3  # in a window at least: of one alone nobody knows whether it was a hiccup
CUT: Final = 0.8  # of what was under way when the loop was late
STEP: Final = 1 / 16  # of the bound: what it grows by in a window, once it was cut
FULL: Final = 0.9  # of the bound under way: it binds
HALF: Final = 0.5  # of a processor: twice as many calls would take all of it


class Pressure:
    """The bound, window by window.

    Args:
        first: Calls at once to begin with.
    """

    def __init__(self, first: int = FIRST) -> None:
        self.most = first
        """The bound now."""
        self._cut = False  # ever
        self._lags = [0.0, 0.0]  # the two longest of this window
        self._own = [0.0, 0.0]  # as far as this process was at work
        self._peak = 0

    def saw(self, lag: float, worked: float, under_way: int) -> None:
        """Takes a sample.

        Args:
            lag: Seconds that the loop was late.
            worked: Seconds for which the process had a processor meanwhile.
            under_way: Calls at this moment.
        """
        self._lags = sorted((*self._lags, lag))[1:]
        self._own = sorted((*self._own, min(lag, worked)))[1:]
        self._peak = max(self._peak, under_way)

    def judged(self, *, waiting: bool, busy: float) -> int:
        """Ends a window; the bound from now on.

        Args:
            waiting: Calls wait for their turn.
            busy: The part of the window for which the process had a processor.
        """
        # the second longest: once is a hiccup, such as a collection of garbage
        late, own, peak = self._lags[0] > LATE_SECONDS, self._own[0] > LATE_SECONDS, self._peak
        idle = self._lags[1] <= IDLE_SECONDS and busy <= HALF
        self._lags, self._own, self._peak = [0.0, 0.0], [0.0, 0.0], 0
        if own and peak > LEAST:
            self._cut = True
            self.most = max(LEAST, int(min(self.most, peak) * CUT))
        elif late:
            self.most = max(LEAST, min(self.most, peak))
        elif waiting or peak >= self.most * FULL:
            quickly = idle and not self._cut
            self.most = min(MOST, self.most * 2 if quickly else self.most + max(1, int(self.most * STEP)))
        return self.most


class Sampler:
    """Watches the loop and moves a turnstile's bound.

    Args:
        turnstile: Whose.
        pressure: Judges.
        clock: Seconds, monotonic: the loop's.
        work: Seconds for which this process had a processor.
    """

    def __init__(
        self,
        turnstile: Turnstile,
        pressure: Pressure,
        clock: Callable[[], float],
        work: Callable[[], float] = time.process_time,
    ) -> None:
        self._turnstile = turnstile
        self._pressure = pressure
        self._clock = clock
        self._work = work

    async def run(self) -> None:
        """Watches for ever."""
        since, before, seen = self._clock(), self._work(), 0
        while True:
            due, worked = self._clock() + SAMPLE_SECONDS, self._work()
            await asyncio.sleep(SAMPLE_SECONDS)
            now = self._clock()
            self._pressure.saw(max(0.0, now - due), self._work() - worked, self._turnstile.under_way)
            seen += 1
            if now - since >= WINDOW_SECONDS and seen >= SAMPLES:
                busy = (self._work() - before) / (now - since)
                since, before, seen = now, self._work(), 0
                self._turnstile.resize(self._pressure.judged(waiting=self._turnstile.waiting > 0, busy=busy))
