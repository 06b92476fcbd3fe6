"""When something that follows local clocks turns next: calendars of policies, prices by the hour."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

MINUTE: Final = 60.0
_HORIZON: Final = 9  # days: a week, and one more on each side


def moments(zone: ZoneInfo, minutes: Iterable[int], now: float) -> list[float]:
    """The moments after `now` at which local clocks show one of some minutes of the day, in order; of nine days.

    Args:
        zone: Of the clocks.
        minutes: After midnight; beyond a day on the next one.
        now: Seconds since 1970 UTC.
    """
    midnight = datetime.fromtimestamp(now, zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    found: set[float] = set()
    for minute in set(minutes):
        for offset in range(-1, _HORIZON):
            local = midnight + timedelta(days=offset, minutes=minute)
            found.update(local.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
    return sorted(moment for moment in found if moment > now)


def next_turn(state: Callable[[float], object], candidates: Iterable[float], now: float) -> float | None:
    """The first whole minute after `now` at which `state` is another; None when it is the same at all candidates.

    Local times may be skipped or repeated by their clocks; so each is a moment to look at, and the turn itself lies
    somewhere between the last one before it and the first one after it.
    """
    before, at_first = now, state(now)
    for moment in candidates:
        if state(moment) != at_first:
            return _bisected(state, at_first, before, moment)
        before = moment
    return None


def _bisected(state: Callable[[float], object], at_first: object, before: float, after: float) -> float:
    low, high = int(before // MINUTE), int(after // MINUTE)  # local clocks turn at whole minutes
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if state(middle * MINUTE) == at_first else (low, middle)
    return high * MINUTE
