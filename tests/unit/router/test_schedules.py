"""Which policy rules at a moment, around the clock and around its changes."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from polyroute.router.policyconfig import DAYS, ScheduleConfig, days_of, minute_of
from polyroute.router.schedules import Schedule, covered, preview, ruling, schedule_of, switched

PEAK = {
    "zone": "Asia/Shanghai",
    "windows": [{"days": "mon-fri", "start": "09:00", "end": "18:00", "policy": "quick"}],
    "otherwise": "cheap",
}


def made(**config: Any) -> Schedule:
    """A schedule out of its configuration."""
    return schedule_of("s", ScheduleConfig.model_validate(config))


def at(zone: str, text: str, fold: int = 0) -> float:
    """A local time as seconds since 1970 UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def local(zone: str, moment: float | None) -> str:
    """A moment as a local time."""
    assert moment is not None
    return datetime.fromtimestamp(moment, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")


@pytest.mark.parametrize(
    ("moment", "policy"),
    [
        ("2026-03-02 08:59:59.999", "cheap"),  # a Monday
        ("2026-03-02 09:00", "quick"),
        ("2026-03-02 17:59:59.999", "quick"),
        ("2026-03-02 18:00", "cheap"),
        ("2026-03-07 12:00", "cheap"),  # a Saturday
    ],
)
def test_peak_and_off_peak(moment: str, policy: str) -> None:
    """Performance first in business hours of the zone, cost first otherwise, to the minute."""
    assert policy == ruling(made(**PEAK), at("Asia/Shanghai", moment)).policy


def test_zone_is_the_schedules_own() -> None:
    """09:00 in Shanghai is 01:00 in London's winter."""
    ruled = ruling(made(**PEAK), at("Europe/London", "2026-03-02 01:00"))

    assert ("quick", "mon-fri 09:00-18:00 Asia/Shanghai") == (ruled.policy, ruled.reason)


def test_preview_says_until_when() -> None:
    """What rules at 09:00 on Monday in Shanghai, and the next change; over a weekend it is days away."""
    schedule = made(**PEAK)
    monday = preview(schedule, at("Asia/Shanghai", "2026-03-02 09:00"))
    friday = preview(schedule, at("Asia/Shanghai", "2026-03-06 18:00"))

    assert ("quick", "2026-03-02 18:00") == (monday.policy, local("Asia/Shanghai", monday.until))
    assert ("cheap", "2026-03-09 09:00") == (friday.policy, local("Asia/Shanghai", friday.until))


def test_what_never_changes_has_no_end() -> None:
    """Without windows, or with one that holds everything, there is no next change."""
    assert None is preview(made(otherwise="a"), 0).until
    assert None is preview(made(windows=[{"policy": "b"}], otherwise="a"), 0).until


def test_window_over_midnight_belongs_to_the_day_it_begins_on() -> None:
    """Friday's night shift lasts into Saturday, and there is none from Saturday to Sunday."""
    schedule = made(windows=[{"days": "fri", "start": "22:00", "end": "06:00", "policy": "night"}], otherwise="day")

    seen = [
        ruling(schedule, at("UTC", moment)).policy
        for moment in (
            "2026-03-06 21:59",
            "2026-03-06 22:00",
            "2026-03-07 05:59",
            "2026-03-07 06:00",
            "2026-03-07 23:00",
        )
    ]

    assert ["day", "night", "night", "day", "day"] == seen


def test_first_window_wins() -> None:
    """Windows are asked in their order."""
    windows = [{"days": "wed", "policy": "midweek"}, {"days": "mon-fri", "policy": "week"}]
    schedule = made(windows=windows, otherwise="rest")

    seen = [ruling(schedule, at("UTC", f"2026-03-0{day} 12:00")).policy for day in (3, 4, 5, 7)]

    assert ["week", "midweek", "week", "rest"] == seen


def test_clock_that_skips_an_hour() -> None:
    """A window that begins in the skipped hour begins when the clock has jumped over its start."""
    schedule = made(zone="America/New_York", windows=[{"start": "02:30", "end": "05:00", "policy": "b"}], otherwise="a")
    before = at("America/New_York", "2026-03-08 01:00")

    ruled = preview(schedule, before)

    assert ("a", "2026-03-08 03:00") == (ruled.policy, local("America/New_York", ruled.until))
    assert "b" == ruling(schedule, before + 3600).policy


def test_clock_that_repeats_an_hour() -> None:
    """A window inside of the repeated hour rules twice."""
    schedule = made(zone="America/New_York", windows=[{"start": "01:15", "end": "01:30", "policy": "b"}], otherwise="a")
    moments = [at("America/New_York", "2026-11-01 01:20", fold) for fold in (0, 1)]

    assert ["b", "b"] == [ruling(schedule, moment).policy for moment in moments]
    assert "a" == ruling(schedule, moments[0] + 1800).policy
    assert moments[1] - 300 == preview(schedule, moments[0] + 1800).until


def test_load_switch_comes_before_the_calendar() -> None:
    """While it is on, the load's policy rules."""
    schedule = made(**PEAK, load={"above": 100, "below": 80, "policy": "rush"})

    assert "rush" == ruling(schedule, at("Asia/Shanghai", "2026-03-02 09:00"), busy=True).policy
    assert "quick" == ruling(schedule, at("Asia/Shanghai", "2026-03-02 09:00")).policy
    assert [frozenset(), {"s"}, {"s"}, frozenset(), frozenset()] == [
        switched(frozenset(before), [schedule], load)
        for before, load in (((), 99), ((), 100), (("s",), 81), (("s",), 80), ((), 81))
    ]


WINDOWS = st.lists(
    st.fixed_dictionaries(
        {
            "days": st.lists(st.sampled_from(DAYS), min_size=1, max_size=3).map(",".join),
            "start": st.tuples(st.integers(0, 23), st.sampled_from([0, 15, 59])).map(lambda t: f"{t[0]:02}:{t[1]:02}"),
            "end": st.tuples(st.integers(0, 23), st.sampled_from([0, 15, 59])).map(lambda t: f"{t[0]:02}:{t[1]:02}"),
            "policy": st.sampled_from(["a", "b"]),
        }
    ),
    max_size=3,
)
ZONES = st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])


@settings(max_examples=60, deadline=None)
@given(WINDOWS, ZONES, st.integers(1_770_000_000, 1_800_000_000))
def test_preview_is_what_the_minutes_say(windows: list[dict[str, str]], zone: str, now: int) -> None:
    """Nothing changes before the moment that a preview names, and something does at it."""
    schedule = made(zone=zone, windows=windows, otherwise="a")

    ruled = preview(schedule, now)

    end = now + 8 * 86_400 if ruled.until is None else ruled.until
    steps = range(now, int(end), max(60, int(end - now) // 200))
    assert {ruled.policy} == {ruling(schedule, moment).policy for moment in steps}
    if ruled.until is not None:
        assert ruled.policy != ruling(schedule, ruled.until).policy
        assert ruled.policy == ruling(schedule, ruled.until - 1).policy


def test_days_and_times_in_words() -> None:
    """Ranges of days may go over the weekend; the day has a minute 24:00 to end at."""
    assert [{0, 1, 2, 3, 4}, {5, 6}, {4, 5, 6, 0}] == [days_of(one) for one in ("mon-fri", "Sat, sunday", "fri-mon")]
    assert (0, 570, 1440) == tuple(minute_of(one) for one in ("00:00", "09:30", "24:00"))
    for word in ("9:30", "24:01", "25:00", "x"):
        with pytest.raises(ValueError, match="not a time of day"):
            minute_of(word)
    with pytest.raises(ValueError, match="'moo' is not a day"):
        days_of("mon,moo")


def test_week_that_is_covered() -> None:
    """Minutes of windows, those over Sunday's midnight included."""
    schedule = made(
        windows=[{"days": "sun", "start": "23:00", "end": "01:00", "policy": "a"}, {"policy": "b"}], otherwise="c"
    )

    assert {*range(10_020, 10_080), *range(60)} == covered(schedule.windows[:1])
    assert 7 * 24 * 60 == len(covered(schedule.windows))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"zone": "Asia/Peking", "otherwise": "a"}, "'Asia/Peking' is not a time zone"),
        ({"zone": "../etc", "otherwise": "a"}, "is not a time zone"),
        ({"windows": [{"days": "mo", "policy": "a"}], "otherwise": "a"}, "'mo' is not a day"),
        ({"load": {"above": 5, "below": 5, "policy": "a"}, "otherwise": "a"}, "below must be less than above"),
    ],
)
def test_wrong_schedule_is_refused(config: dict[str, Any], message: str) -> None:
    """Zones, days and thresholds are checked when the catalog is read."""
    with pytest.raises(ValidationError, match=message):
        ScheduleConfig.model_validate(config)
