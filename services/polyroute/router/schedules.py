"""Which policy rules at a moment: calendars with time zones, and a switch for busy times.

Pure functions of the moment and of whether the load switch is on. The switch has two thresholds and so some memory: it
is turned on at one and off at the other, by `switched`, once for every message of live figures.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from polyroute.router.policyconfig import LoadConfig, ScheduleConfig, WindowConfig, days_of, minute_of
from polyroute.router.turns import moments, next_turn

_DAY: Final = 24 * 60  # minutes
_WEEK: Final = 7 * _DAY


class Window(NamedTuple):
    """A time of the week, in minutes of local time; `end` is beyond a day when it lies on the next one."""

    days: frozenset[int]
    start: int
    end: int
    policy: str
    label: str

    def holds(self, day: int, minute: int) -> bool:
        """Whether a minute of a day lies in it, begun on that day or on the day before."""
        if day in self.days and self.start <= minute < self.end:
            return True
        return (day - 1) % 7 in self.days and minute + _DAY < self.end


class Ruled(NamedTuple):
    """What a schedule says: the policy, why, and when that changes next (seconds since 1970 UTC; None for never)."""

    policy: str
    reason: str
    until: float | None = None


@dataclass(frozen=True, eq=False)
class Schedule:
    """Which policy rules when.

    Args:
        name: In the catalog.
        zone: Of the windows.
        windows: The first that holds a moment rules it.
        load: The switch for busy times, if there is one.
        otherwise: What rules at all other times.
    """

    name: str
    zone: ZoneInfo
    windows: tuple[Window, ...]
    load: LoadConfig | None
    otherwise: str

    @property
    def policies(self) -> Iterable[str]:
        """Every policy that it may make rule."""
        load = () if self.load is None else (self.load.policy,)
        return dict.fromkeys((*load, *(window.policy for window in self.windows), self.otherwise))


def schedule_of(name: str, config: ScheduleConfig) -> Schedule:
    """A schedule out of its configuration."""
    windows = tuple(_window(window, config.zone) for window in config.windows)
    return Schedule(name, ZoneInfo(config.zone), windows, config.load, config.otherwise)


def ruling(schedule: Schedule, now: float, *, busy: bool = False) -> Ruled:
    """What rules at `now` (seconds since 1970 UTC), without asking when that changes: cheap, for every minute."""
    if busy and schedule.load is not None:
        return Ruled(schedule.load.policy, f"load, above {schedule.load.above:g}/s")
    window = _at(schedule, now)
    return Ruled(schedule.otherwise, "otherwise") if window is None else Ruled(window.policy, window.label)


def preview(schedule: Schedule, now: float, *, busy: bool = False) -> Ruled:
    """What rules at `now`, and when the calendar next says otherwise."""
    ruled = ruling(schedule, now, busy=busy)
    return ruled._replace(until=_next_change(schedule, now))


def switched(busy: frozenset[str], schedules: Iterable[Schedule], load: float) -> frozenset[str]:
    """The schedules whose switch is on, given those where it was on before: on at `above`, off at `below`."""
    return frozenset(
        schedule.name
        for schedule in schedules
        if schedule.load is not None
        and (load >= schedule.load.above or (schedule.name in busy and load > schedule.load.below))
    )


def covered(windows: Iterable[Window]) -> frozenset[int]:
    """The minutes of a week, from Monday 00:00 on, that lie in one of the windows."""
    return frozenset(
        (day * _DAY + minute) % _WEEK
        for window in windows
        for day in window.days
        for minute in range(window.start, window.end)
    )


def _window(config: WindowConfig, zone: str) -> Window:
    start, end = minute_of(config.start), minute_of(config.end)
    days = days_of(config.days)
    label = f"{config.days} {config.start}-{config.end} {zone}"
    return Window(days, start, end if end > start else end + _DAY, config.policy, label)


def _at(schedule: Schedule, now: float) -> Window | None:
    local = datetime.fromtimestamp(now, schedule.zone)
    day, minute = local.weekday(), local.hour * 60 + local.minute
    return next((window for window in schedule.windows if window.holds(day, minute)), None)


def _next_change(schedule: Schedule, now: float) -> float | None:
    """The first minute at which another policy rules."""
    minutes = (minute for window in schedule.windows for minute in (window.start, window.end))
    return next_turn(lambda moment: _policy_at(schedule, moment), moments(schedule.zone, minutes, now), now)


def _policy_at(schedule: Schedule, now: float) -> str:
    window = _at(schedule, now)
    return schedule.otherwise if window is None else window.policy
