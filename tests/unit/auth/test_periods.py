"""From when to when a budget's amount is."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.auth.money.periods import Period, window, zone
from polyroute.mesh.errors import MeshError

ZONES = ("UTC", "Asia/Shanghai", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia")
HOUR = 3_600_000_000


def micros(text: str) -> int:
    """A moment in UTC."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1e6)


@pytest.mark.parametrize(
    ("period", "where", "at", "begins", "ends"),
    [
        (Period.DAILY, "UTC", "2026-03-01T23:59:59", "2026-03-01", "2026-03-02"),
        (Period.DAILY, "Asia/Shanghai", "2026-03-01T16:00:00", "2026-03-01T16:00", "2026-03-02T16:00"),
        (Period.WEEKLY, "UTC", "2026-03-01T12:00:00", "2026-02-23", "2026-03-02"),
        (Period.MONTHLY, "UTC", "2026-02-14T12:00:00", "2026-02-01", "2026-03-01"),
        (Period.MONTHLY, "UTC", "2026-12-31T12:00:00", "2026-12-01", "2027-01-01"),
        (Period.DAILY, "America/New_York", "2026-03-08T12:00:00", "2026-03-08T05:00", "2026-03-09T04:00"),
    ],
)
def test_window(period: Period, where: str, at: str, begins: str, ends: str) -> None:
    """Calendar days, weeks from Monday, months; the day of a change of clocks is shorter."""
    assert (micros(begins), micros(ends)) == window(period, zone(where), micros(at))


def test_total_has_no_end() -> None:
    """And begins with everything."""
    assert (0, None) == window(Period.TOTAL, zone(""), micros("2026-01-01"))


@given(
    st.sampled_from([Period.DAILY, Period.WEEKLY, Period.MONTHLY]),
    st.sampled_from(ZONES),
    st.integers(0, 4_000_000_000),
)
def test_windows_are_seamless(period: Period, where: str, at: int) -> None:
    """Every moment lies in its own window, and the next one begins where this one ends."""
    begins, ends = window(period, ZoneInfo(where), at * 1_000_000)
    assert ends is not None
    assert begins <= at * 1_000_000 < ends
    assert ends == window(period, ZoneInfo(where), ends)[0]


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc/passwd", "/etc/passwd", "UTC\x00", "Europe"])
def test_unknown_zone_is_refused(name: str) -> None:
    """Paths and folders too."""
    with pytest.raises(MeshError):
        zone(name)
