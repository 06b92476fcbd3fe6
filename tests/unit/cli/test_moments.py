"""Times as people write them."""

from datetime import UTC, datetime

import pytest

from polyroute.cli.moments import moment, span
from polyroute.mesh.roles import ConfigError

WEDNESDAY = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)  # 20:00 in Shanghai


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("monday 09:00", "Asia/Shanghai", "2026-03-09T01:00:00+00:00"),
        ("Wed 21:00", "Asia/Shanghai", "2026-03-04T13:00:00+00:00"),
        ("wed 19:59", "Asia/Shanghai", "2026-03-11T11:59:00+00:00"),
        ("9:30", "UTC", "2026-03-04T09:30:00+00:00"),
        ("2026-07-01 09:00", "Europe/Berlin", "2026-07-01T07:00:00+00:00"),
        ("2026-07-01T09:00:00+05:00", "UTC", "2026-07-01T04:00:00+00:00"),
    ],
)
def test_moments(text: str, zone: str, expected: str) -> None:
    """The next such day, today's time, or a date, by the clock of the zone."""
    assert expected == moment(text, zone, WEDNESDAY).astimezone(UTC).isoformat()


@pytest.mark.parametrize("text", ["someday 09:00", "monday 25:00", "monday", "2026-13-01", ""])
def test_no_moment(text: str) -> None:
    """Refused with an example."""
    with pytest.raises(ConfigError, match="is not a moment such as"):
        moment(text, "UTC", WEDNESDAY)


def test_no_zone() -> None:
    """Refused as the zone."""
    with pytest.raises(ConfigError, match="--zone: 'Mars/Base' is not a time zone"):
        moment("monday 09:00", "Mars/Base", WEDNESDAY)


def test_spans() -> None:
    """Minutes, hours and days."""
    assert [1800, 43_200, 604_800] == [span(one, "--since") for one in ("30m", "12h", "7d")]
    with pytest.raises(ConfigError, match="--since: 'week' is not a span"):
        span("week", "--since")
