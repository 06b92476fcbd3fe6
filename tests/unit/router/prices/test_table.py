"""Which row of a price list holds when, and what it is in nano-USD."""

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.router.prices.config import PricesConfig
from polyroute.router.prices.quote import Quote, nanos
from polyroute.router.prices.table import Exchange, RowTariff, Table

EXCHANGE = {"CNY": [{"per_usd": "8", "since": "2026-01-01"}, {"per_usd": "7.5", "since": "2026-07-01"}]}


def at(text: str) -> float:
    """A moment in seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def tariff(*rows: dict[str, Any]) -> RowTariff:
    """The rows of one model."""
    config = PricesConfig.model_validate({"models": {"p/m": list(rows)}, "exchange": EXCHANGE})
    found = Table("prices", config, Exchange(config.exchange)).tariff("p/m")
    assert found is not None
    return found


def usd(quote: Quote) -> tuple[float, float] | None:
    """Input and output in USD per million."""
    return None if quote.price is None else (quote.price.input / 1e9, quote.price.output / 1e9)


ROW = {"input": 2, "output": 8}
START, END = datetime(2026, 1, 1), datetime(2026, 12, 31)  # noqa: DTZ001 - hypothesis adds the zone
NIGHT = {"name": "night", "start": "22:00", "end": "06:00", "input": 1, "output": 4}


def test_a_row_without_dates_holds_for_ever() -> None:
    """It has no boundary."""
    quote = tariff(ROW).quote(at("2026-05-01T00:00Z"))

    assert ((2.0, 8.0), inf, "prices", "p/m") == (usd(quote), quote.until, quote.origin, quote.row)


def test_effective_dates_switch_at_midnight_of_the_zone() -> None:
    """The last second of the old price, the first of the new one."""
    new = {"input": 3, "output": 9, "effective_from": "2026-10-01", "zone": "Asia/Shanghai"}
    found = tariff(ROW, new)

    before, after = found.quote(at("2026-09-30T23:59:59+08:00")), found.quote(at("2026-10-01T00:00+08:00"))

    assert ((2.0, 8.0), (3.0, 9.0)) == (usd(before), usd(after))
    assert (at("2026-10-01T00:00+08:00"), inf) == (before.until, after.until)


def test_a_row_that_ended_says_nothing() -> None:
    """Whoever comes next in the order of lists is asked."""
    quote = tariff({**ROW, "effective_until": "2026-09-10"}).quote(at("2026-09-10T00:00Z"))

    assert ("", None) == (quote.origin, quote.price)


def test_a_row_yet_to_come_says_when() -> None:
    """So that the list is asked again then."""
    quote = tariff({**ROW, "effective_from": "2026-09-10T08:00+08:00"}).quote(at("2026-09-01T00:00Z"))

    assert ("", at("2026-09-10T00:00Z")) == (quote.origin, quote.until)


@pytest.mark.parametrize(
    ("moment", "expected", "until"),
    [
        ("2026-03-02T21:59+08:00", (2.0, 8.0), "2026-03-02T22:00+08:00"),
        ("2026-03-02T22:00+08:00", (1.0, 4.0), "2026-03-03T06:00+08:00"),
        ("2026-03-03T00:00+08:00", (1.0, 4.0), "2026-03-03T06:00+08:00"),
        ("2026-03-03T05:59+08:00", (1.0, 4.0), "2026-03-03T06:00+08:00"),
        ("2026-03-03T06:00+08:00", (2.0, 8.0), "2026-03-03T22:00+08:00"),
    ],
)
def test_a_window_over_midnight(moment: str, expected: tuple[float, float], until: str) -> None:
    """Both ends, and the hours on either side of midnight."""
    quote = tariff({**ROW, "zone": "Asia/Shanghai", "windows": [NIGHT]}).quote(at(moment))

    assert (expected, at(until)) == (usd(quote), quote.until)


def test_a_window_of_some_days_belongs_to_the_day_on_which_it_begins() -> None:
    """Friday's night lasts until Saturday morning; Saturday has none of its own."""
    found = tariff({**ROW, "windows": [{**NIGHT, "days": "mon-fri"}]})

    assert (1.0, 4.0) == usd(found.quote(at("2026-03-07T05:00Z")))
    assert (2.0, 8.0) == usd(found.quote(at("2026-03-07T23:00Z")))
    assert at("2026-03-09T22:00Z") == found.quote(at("2026-03-07T06:00Z")).until


def test_no_window_begins_on_a_holiday() -> None:
    """A night that began the day before lasts until its end all the same."""
    found = tariff({**ROW, "windows": [{**NIGHT, "but_on": ["2026-03-03"]}]})

    assert (1.0, 4.0) == usd(found.quote(at("2026-03-03T05:00Z")))
    assert (2.0, 8.0) == usd(found.quote(at("2026-03-03T23:00Z")))
    assert (2.0, 8.0) == usd(found.quote(at("2026-03-04T05:00Z")))
    assert at("2026-03-04T22:00Z") == found.quote(at("2026-03-03T06:00Z")).until


@pytest.mark.parametrize(
    ("moment", "expected", "until"),
    [
        # clocks go from 02:00 to 03:00: a window from 02:30 begins at 03:00
        ("2026-03-08T01:59-05:00", (2.0, 8.0), "2026-03-08T03:00-04:00"),
        ("2026-03-08T03:00-04:00", (1.0, 4.0), "2026-03-08T04:00-04:00"),
        # clocks go from 02:00 back to 01:00: one from 01:00 to 02:00 would be two hours long; this one begins late
        ("2026-11-01T01:30-04:00", (2.0, 8.0), "2026-11-01T02:30-05:00"),
        ("2026-11-01T01:30-05:00", (2.0, 8.0), "2026-11-01T02:30-05:00"),
        ("2026-11-01T02:30-05:00", (1.0, 4.0), "2026-11-01T04:00-05:00"),
    ],
)
def test_windows_follow_the_clocks_that_change(moment: str, expected: tuple[float, float], until: str) -> None:
    """Local time is what the vendor's page says, summer and winter."""
    window = {**NIGHT, "start": "02:30", "end": "04:00"}
    quote = tariff({**ROW, "zone": "America/New_York", "windows": [window]}).quote(at(moment))

    assert (expected, at(until)) == (usd(quote), quote.until)


def test_another_currency_by_the_rate_of_the_day() -> None:
    """The rate is a boundary too, and stands in the version."""
    found = tariff({**ROW, "currency": "CNY"})

    old, new = found.quote(at("2026-06-30T23:59Z")), found.quote(at("2026-07-01T00:00Z"))

    assert ((0.25, 1.0), at("2026-07-01T00:00Z")) == (usd(old), old.until)
    assert new.price is not None
    assert old.price is not None
    assert (266_666_667, 1_066_666_667) == (new.price.input, new.price.output)
    assert old.price.version.endswith(" CNY 8")
    assert new.price.version.endswith(" CNY 7.5")


def test_before_the_first_rate_a_price_is_unknown() -> None:
    """Not nothing, and not by a rate of another time: the row is there and has no price."""
    quote = tariff({**ROW, "currency": "CNY"}).quote(at("2025-12-31T00:00Z"))

    assert (None, "prices") == (quote.price, quote.origin)


def test_version_names_the_row_and_the_window() -> None:
    """The same figures have the same version, wherever they are said to be from; others do not."""
    row = {**ROW, "windows": [NIGHT]}
    day, night = "2026-03-02T12:00Z", "2026-03-02T23:00Z"

    def version(moment: str, **changes: Any) -> str:
        price = tariff({**row, **changes}).quote(at(moment)).price
        assert price is not None
        return price.version

    assert version(day) == version(day, source="https://elsewhere", checked="2026-01-01")
    assert 3 == len({version(day), version(night), version(day, input=2.5)})
    assert version(night).endswith(" night")


def test_exact_names_come_before_patterns_and_long_patterns_before_short_ones() -> None:
    """In any case of the letters."""
    rows = {"p/*": ROW, "p/large-*": {**ROW, "input": 3}, "p/Large-2": {**ROW, "input": 4}, "q/m": ROW}
    table = Table("prices", PricesConfig.model_validate({"models": rows}), Exchange())

    def of(name: str) -> float | None:
        found = table.tariff(name)
        figures = usd(found.quote(0.0)) if found is not None else None
        return None if figures is None else figures[0]

    assert (4.0, 3.0, 2.0, None) == (of("P/large-2"), of("p/large-3"), of("p/small"), of("q/other"))


def test_units_beside_tokens() -> None:
    """Per picture, per minute, per call, and an hour of caching above the usual time."""
    row = {**ROW, "cache_write": 2.5, "cache_write_1h": 4, "image": "0.02", "audio_minute": "0.006", "request": 100}
    price = tariff(row).quote(0.0).price

    assert price is not None
    assert {
        "images": 20_000_000 * 10**6,
        "audio_milliseconds": 6_000_000 * 10**6 // 60_000,
        "ephemeral_1h_input_tokens": 1_500_000_000,
    } == dict(price.other)
    assert 100_000_000_000 == price.request


def test_tiers_of_a_window_are_its_own() -> None:
    """A long prompt at night is charged by the night's tier."""
    night = {**NIGHT, "tiers": [{"above": 1000, "input": 1.5, "output": 6}]}
    row = {**ROW, "tiers": [{"above": 1000, "input": 3, "output": 12}], "windows": [night]}
    day, dark = (tariff(row).quote(at(moment)).price for moment in ("2026-03-02T12:00Z", "2026-03-02T23:00Z"))

    assert day is not None
    assert dark is not None
    assert (3_000_000_000, 1_500_000_000) == (day.tiers[0].price.input, dark.tiers[0].price.input)


@given(
    figure=st.decimals(0, 10_000, places=6),
    rate=st.decimals("0.0001", 2000, places=4),
    units=st.fractions(1, 10**6),
)
def test_conversion_is_off_by_half_a_nano_dollar_at_most(figure: Decimal, rate: Decimal, units: Fraction) -> None:
    """Per million tokens, whatever the rate; and a dollar is a dollar exactly."""
    exact = Fraction(figure) * units * 10**9 / Fraction(rate)

    assert abs(exact - nanos(Fraction(figure), Fraction(rate), units)) <= Fraction(1, 2)
    assert Fraction(figure) * 10**9 == nanos(Fraction(figure), Fraction(1))


@given(st.lists(st.datetimes(START, END, timezones=st.just(UTC)), min_size=1, max_size=3))
def test_nothing_turns_before_it_is_said_to(moments: list[datetime]) -> None:
    """Until the boundary the price is the same, minute by minute; so a snapshot may keep it."""
    found = tariff({**ROW, "zone": "America/New_York", "windows": [{**NIGHT, "start": "01:30", "end": "02:30"}]})
    for moment in moments:
        now = moment.timestamp()
        quote = found.quote(now)
        steps = [now + (quote.until - now) * share for share in (0.01, 0.3, 0.5, 0.9, 0.999)]

        assert {usd(quote)} == {usd(found.quote(step)) for step in steps}
