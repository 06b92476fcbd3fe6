"""Times as people write them on a command line: spans back from now, and days of the week."""

import re
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from polyroute.mesh.roles import ConfigError
from polyroute.router.policyconfig import days_of, minute_of

_SPAN: Final = re.compile(r"(\d+)([mhd])")
_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400}
_DAY: Final = re.compile(r"([a-z]+)\s+(\d{1,2}:\d{2})", re.IGNORECASE)


def span(text: str, option: str) -> int:
    """Seconds of a span such as `7d`, `12h` or `30m`.

    Raises:
        ConfigError: It is none; the error names the option.
    """
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ConfigError(f"{option}: {text!r} is not a span such as 7d, 12h or 30m")
    return int(found[1]) * _UNITS[found[2]]


def moment(text: str, zone: str, now: datetime) -> datetime:
    """A moment such as `monday 09:00` (the next one), `09:00` (today) or `2026-03-02 09:00`, in a time zone.

    Raises:
        ConfigError: It is none, or the zone is unknown.
    """
    try:
        local = now.astimezone(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(f"--zone: {zone!r} is not a time zone such as Asia/Shanghai") from None
    day = _DAY.fullmatch(text.strip())
    try:
        if day is not None:
            (wanted,) = days_of(day[1])
            found = _at(local, day[2])
            found += timedelta(days=(wanted - found.weekday()) % 7)
            return found if found >= local else found + timedelta(days=7)
        if "-" not in text:
            return _at(local, text.strip())
        found = datetime.fromisoformat(text.strip())
        return found if found.tzinfo else found.replace(tzinfo=local.tzinfo)
    except ValueError:
        raise ConfigError(f"{text!r} is not a moment such as 'monday 09:00' or '2026-03-02 09:00'") from None


def _at(local: datetime, clock: str) -> datetime:
    minute = minute_of(clock.zfill(5))
    return local.replace(hour=minute // 60 % 24, minute=minute % 60, second=0, microsecond=0)
