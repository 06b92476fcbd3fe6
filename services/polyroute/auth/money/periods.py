"""From when to when a budget's amount is: calendar days, weeks and months where the operator lives."""

from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from typing import Final
from zoneinfo import ZoneInfo

from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError

UTC_NAME: Final = "UTC"


class Period(IntEnum):
    """For how long an amount is; the values are the contract's."""

    TOTAL = 1
    DAILY = 2
    WEEKLY = 3
    MONTHLY = 4


def zone(name: str) -> ZoneInfo:
    """The time zone of that name; empty means UTC.

    Raises:
        MeshError: REASON_INVALID_REQUEST, there is none.
    """
    try:
        return ZoneInfo(name or UTC_NAME)
    except (OSError, ValueError, KeyError):  # a folder's name, a path that leads elsewhere, an unknown name
        raise MeshError(
            errors_pb2.REASON_INVALID_REQUEST, f"there is no such time zone: {name}", metadata={"param": "time_zone"}
        ) from None


def window(period: Period, where: ZoneInfo, at: int) -> tuple[int, int | None]:
    """The period that `at` lies in: its first moment, and the first after it; microseconds since the Unix epoch.

    Days begin at local midnight, so that one of a change of clocks has 23 or 25 hours. A total has no end.
    """
    if period == Period.TOTAL:
        return 0, None
    today = datetime.fromtimestamp(at / 1e6, where).date()
    if period == Period.DAILY:
        first, following = today, today + timedelta(days=1)
    elif period == Period.WEEKLY:
        first = today - timedelta(days=today.weekday())
        following = first + timedelta(days=7)
    else:
        first = today.replace(day=1)
        following = (first + timedelta(days=32)).replace(day=1)
    return _midnight(first, where), _midnight(following, where)


def _midnight(day: date, where: ZoneInfo) -> int:
    moment = datetime(day.year, day.month, day.day, tzinfo=where).astimezone(UTC)
    return round(moment.timestamp()) * 1_000_000
