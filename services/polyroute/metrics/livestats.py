"""Live figures of deployments over sliding windows of time, in memory that does not grow with traffic.

Each window is a ring of slots of a twentieth of its length, and a running total of them: an attempt is added to both,
and what leaves the window is subtracted from the total. A window therefore covers between 95 % and 100 % of its length.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Final

from polyroute.api.errors.v1 import errors_pb2 as errors
from polyroute.api.metrics.v1.metrics_pb2 import AttemptRecord
from polyroute.metrics.sketch import Sketch, step_of

WINDOWS: Final = (60.0, 300.0, 1800.0)  # s
SLOTS: Final = 20  # per window
SHARES: Final = (0.5, 0.9, 0.99)
# A shorter answer came in one or two reads, and its speed would be that of the network.
LEAST_GENERATION: Final = 10_000  # microseconds

# Faults that say nothing of the deployment: another one would have refused the same request.
_CALLERS: Final = frozenset({errors.FAULT_CLIENT, errors.FAULT_CONTEXT, errors.FAULT_FILTER, errors.FAULT_UNSUPPORTED})


@dataclass(frozen=True, slots=True)
class Sample:
    """What one attempt says of its deployment; None where it says nothing."""

    success: bool
    first_token_ms: float | None = None
    total_ms: float | None = None
    tokens_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Percentiles of a figure."""

    p50: float
    p90: float
    p99: float
    count: int


@dataclass(frozen=True, slots=True)
class WindowFigures:
    """Figures of one window; None where nothing was measured."""

    attempts: int
    successes: int
    first_token_ms: Percentiles | None
    total_ms: Percentiles | None
    tokens_per_second: Percentiles | None


Figures = tuple[WindowFigures, ...]
"""One per window, in the order of `WINDOWS`."""


def sample_of(attempt: AttemptRecord, *, stream: bool) -> Sample | None:
    """What `attempt` says of its deployment; None when it says nothing.

    Cancelled attempts and those that the caller's request failed are left out. Durations count for successes only:
    a refused connection is fast. Rates are of streamed answers: of others it is not known when the first token came.
    """
    if attempt.cancelled or attempt.fault in _CALLERS:
        return None
    success = attempt.fault == errors.FAULT_UNSPECIFIED
    first, total = attempt.first_token_microseconds, attempt.total_microseconds
    rate = None
    if success and stream and attempt.output_tokens > 1 and first > 0 and total - first >= LEAST_GENERATION:
        rate = (attempt.output_tokens - 1) * 1e6 / (total - first)
    return Sample(
        success=success,
        first_token_ms=first / 1000 if first > 0 else None,
        total_ms=total / 1000 if success and total > 0 else None,
        tokens_per_second=rate,
    )


class LiveStats:
    """The deployments that were tried in the last half hour.

    Args:
        max_deployments: When there are more, the one longest without an attempt makes room.
        clock: Seconds, never running backwards.
    """

    def __init__(self, *, max_deployments: int = 2000, clock: Callable[[], float] = monotonic) -> None:
        self._max = max_deployments
        self._clock = clock
        self._deployments: dict[str, _Deployment] = {}  # the longest unused first
        self._changed = False

    def observe(self, deployment: str, sample: Sample, *, age: float = 0.0) -> None:
        """Takes in an attempt that ended `age` seconds ago; a negative age counts as 0."""
        found = self._deployments.pop(deployment, None) or _Deployment()
        self._deployments[deployment] = found
        now = self._clock()
        found.add(sample, now - max(age, 0.0), now)
        self._changed = True
        if len(self._deployments) > self._max:
            del self._deployments[next(iter(self._deployments))]

    def refresh(self) -> bool:
        """Lets go of what has left the windows; whether any figure changed since the last time."""
        now = self._clock()
        changed, self._changed = self._changed, False
        for name, deployment in list(self._deployments.items()):
            changed |= deployment.expire(now)
            if deployment.empty:
                del self._deployments[name]
        return changed

    def figures(self) -> Iterator[tuple[str, Figures]]:
        """Each deployment's name and figures, made as they are asked for."""
        return ((name, deployment.figures()) for name, deployment in list(self._deployments.items()))

    def __len__(self) -> int:
        return len(self._deployments)


class _Deployment:
    """The windows of one deployment."""

    __slots__ = ("_figures", "_windows")

    def __init__(self) -> None:
        self._windows = tuple(_Window(seconds) for seconds in WINDOWS)
        self._figures: Figures | None = None

    @property
    def empty(self) -> bool:
        return not self._windows[-1].slots  # the longest window keeps longest

    def add(self, sample: Sample, at: float, now: float) -> None:
        steps = (_step(sample.first_token_ms), _step(sample.total_ms), _step(sample.tokens_per_second))
        for window in self._windows:
            for slot in window.slots_for(at, now):
                slot.add(sample.success, steps)
        self._figures = None

    def expire(self, now: float) -> bool:
        changed = False
        for window in self._windows:
            changed |= window.expire(now)
        if changed:
            self._figures = None
        return changed

    def figures(self) -> Figures:
        if self._figures is None:
            self._figures = tuple(window.total.figures() for window in self._windows)
        return self._figures


class _Window:
    """A ring of slots and their total."""

    __slots__ = ("_width", "slots", "total")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / SLOTS
        self.slots: dict[int, _Slot] = {}  # by number: the time divided by the width
        self.total = _Slot()

    def slots_for(self, at: float, now: float) -> "tuple[_Slot, ...]":
        """Where an attempt that ended at `at` counts: in its slot and the total, or nowhere when it is too old."""
        number = int(at // self._width)
        slot = self.slots.get(number)
        if slot is None:
            if number <= int(now // self._width) - SLOTS:
                return ()
            self.expire(now)  # so that there are never more slots than the window has
            slot = self.slots[number] = _Slot()
        return slot, self.total

    def expire(self, now: float) -> bool:
        """Lets go of the slots that have left the window; whether there were any."""
        last = int(now // self._width) - SLOTS
        gone = [number for number in self.slots if number <= last]
        for number in gone:
            self.total.subtract(self.slots.pop(number))
        return bool(gone)


Steps = tuple[int | None, int | None, int | None]


class _Slot:
    """Attempts of a stretch of time."""

    __slots__ = ("attempts", "sketches", "successes")

    def __init__(self) -> None:
        self.attempts = 0
        self.successes = 0
        self.sketches = (Sketch(), Sketch(), Sketch())  # first token, total, tokens per second

    def add(self, success: bool, steps: Steps) -> None:
        self.attempts += 1
        self.successes += success
        for sketch, step in zip(self.sketches, steps):  # noqa: B905 - six times per attempt
            if step is not None:
                sketch.steps[step] += 1

    def subtract(self, other: "_Slot") -> None:
        self.attempts -= other.attempts
        self.successes -= other.successes
        for sketch, gone in zip(self.sketches, other.sketches, strict=True):
            sketch.subtract(gone)

    def figures(self) -> WindowFigures:
        return WindowFigures(self.attempts, self.successes, *map(_percentiles, self.sketches))


def _step(value: float | None) -> int | None:
    return None if value is None else step_of(value)


def _percentiles(sketch: Sketch) -> Percentiles | None:
    if not sketch.steps:
        return None
    p50, p90, p99 = sketch.percentiles(SHARES)
    return Percentiles(p50, p90, p99, sketch.count)
