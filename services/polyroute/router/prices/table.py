"""A price list as written: which row holds when, and what it charges in nano-USD."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import lru_cache
from math import inf
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from polyroute.api.router.v1.router_pb2 import Price, PriceTier
from polyroute.router.fields import as_written
from polyroute.router.policyconfig import days_of, minute_of
from polyroute.router.prices.config import (
    FIGURES,
    USD,
    ExchangeConfig,
    FiguresConfig,
    PricesConfig,
    RowConfig,
    TimesConfig,
)
from polyroute.router.prices.quote import NOTHING, Quote, price_of
from polyroute.router.schedules import Window
from polyroute.router.turns import moments, next_turn

_AGAIN: Final = 7 * 86_400.0  # seconds: when nothing turns in the week that was looked at, it is looked at again
_DIGEST_BYTES: Final = 5
_KEPT: Final = 64  # prices of one tariff: rows, windows and rates are few
_ALIKE: Final = frozenset({"source", "via", "checked"})  # what does not change what is charged
_LONGEST_NAME: Final = 32


class Rate(NamedTuple):
    """What a dollar costs: units of a currency, and until when that is so."""

    per_usd: Fraction
    text: str
    until: float


class Exchange:
    """What a dollar costs in other currencies, and when.

    Args:
        tables: By currency; the first table that has it is the one that counts.
    """

    def __init__(self, *tables: Mapping[str, tuple[ExchangeConfig, ...]]) -> None:
        self._rates: dict[str, tuple[ExchangeConfig, ...]] = {}
        for table in tables:
            for currency, rates in table.items():
                self._rates.setdefault(currency, tuple(sorted(rates, key=lambda rate: rate.since)))

    def __contains__(self, currency: object) -> bool:
        return currency == USD or currency in self._rates

    def at(self, currency: str, moment: float) -> Rate | None:
        """What holds at a moment; None when no rate of that time is known."""
        if currency == USD:
            return Rate(Fraction(1), "", inf)
        found, until = None, inf
        for rate in self._rates.get(currency, ()):
            since = _seconds(rate.since, ZoneInfo("UTC"))
            if since > moment:
                until = since
                break
            found = rate
        return None if found is None else Rate(Fraction(found.per_usd), f" {currency} {found.per_usd}", until)

    @property
    def version(self) -> str:
        """A digest of all rates."""
        return _digest({name: [as_written(rate) for rate in rates] for name, rates in sorted(self._rates.items())})


class _Row(NamedTuple):
    """A row and when it holds: from `begin` to before `end`, seconds since 1970 UTC."""

    config: RowConfig
    begin: float
    end: float
    zone: ZoneInfo
    windows: tuple[Window, ...]
    holidays: tuple[frozenset[date], ...]

    def window_at(self, moment: float) -> int:
        """The first window that holds a moment; -1 for none."""
        local = datetime.fromtimestamp(moment, self.zone)
        day, minute, today = local.weekday(), local.hour * 60 + local.minute, local.date()
        for i, (window, free) in enumerate(zip(self.windows, self.holidays, strict=True)):
            begun = day in window.days and window.start <= minute < window.end
            if begun and today not in free:
                return i
            late = (day - 1) % 7 in window.days and minute + 24 * 60 < window.end
            if late and today - timedelta(days=1) not in free:
                return i
        return -1


class RowTariff:
    """What the rows of one name say.

    Attributes:
        name: The rows' name in the list.

    Args:
        origin: The list.
        name: The rows' name in it.
        rows: As written.
        exchange: For rows in other currencies.
    """

    def __init__(self, origin: str, name: str, rows: Iterable[RowConfig], exchange: Exchange) -> None:
        self._origin = origin
        self.name = name
        self._rows = tuple(sorted((_compiled(row) for row in rows), key=lambda row: row.begin))
        self._exchange = exchange
        self._price = lru_cache(_KEPT)(self._priced)
        self._minutes = [[minute for one in row.windows for minute in (one.start, one.end)] for row in self._rows]

    @property
    def version(self) -> str:
        """A digest of all that it says."""
        rows = [_priced_by(row.config) for row in self._rows]
        return _digest([self._origin, self.name, rows, self._exchange.version])

    @property
    def always(self) -> bool:
        """One of its rows has neither beginning nor end."""
        return any(row.begin == -inf and row.end == inf for row in self._rows)

    def quote(self, moment: float) -> Quote:
        """What holds at a moment; without an origin when no row does."""
        edges = [edge for row in self._rows for edge in (row.begin, row.end) if edge > moment]
        until = min(edges, default=inf)
        index = max((i for i, row in enumerate(self._rows) if row.begin <= moment < row.end), default=-1)
        if index < 0:
            return NOTHING._replace(until=until)
        row = self._rows[index]
        window = row.window_at(moment)
        if row.windows:
            turn = next_turn(row.window_at, moments(row.zone, self._minutes[index], moment), moment)
            until = min(until, moment + _AGAIN if turn is None else turn)
        rate = self._exchange.at(row.config.currency, moment)
        price = None
        if rate is not None:
            until = min(until, rate.until)
            price = self._price(index, window, rate.per_usd, rate.text)
        config = row.config
        checked = config.checked.isoformat() if config.checked else ""
        return Quote(price, until, self._origin, self.name, config.currency, config.source, checked)

    def _priced(self, index: int, window: int, per_usd: Fraction, rate: str) -> Price:
        config = self._rows[index].config
        part: RowConfig | TimesConfig = config.windows[window] if window >= 0 else config
        when = f" {config.windows[window].name[:_LONGEST_NAME]}" if window >= 0 else ""
        version = f"{self._origin} {_digest([self.name, _priced_by(config)])}{when}{rate}"
        price = _price(part, per_usd, version)
        price.tiers.extend(
            PriceTier(
                above=tier.above,
                answer_above=tier.answer_above,
                reasoned=tier.reasoned,
                price=_price(tier, per_usd, version),
            )
            for tier in part.tiers
        )
        return price


class Table:
    """A whole price list.

    Args:
        origin: Its name: `prices` or `overlay`.
        config: As written.
        exchange: For rows in other currencies.
    """

    def __init__(self, origin: str, config: PricesConfig, exchange: Exchange) -> None:
        self._origin = origin
        self._exchange = exchange
        self._rows = config.models
        self._names = {name.casefold(): name for name in config.models if "*" not in name}
        patterns = [(name.casefold(), name) for name in config.models if "*" in name]
        # of several patterns the one that says most of the name
        self._patterns = sorted(patterns, key=lambda one: (-len(one[0].replace("*", "")), one[0]))
        self._tariffs: dict[str, RowTariff] = {}

    def tariff(self, name: str) -> RowTariff | None:
        """What it says of `provider/model`; None when nothing."""
        folded = name.casefold()
        if folded in self._names:
            return self._tariff(self._names[folded])
        return next(
            (self._tariff(written) for pattern, written in self._patterns if fnmatchcase(folded, pattern)), None
        )

    def _tariff(self, name: str) -> RowTariff:
        """The rows of a name; made once, for their prices are."""
        if name not in self._tariffs:
            self._tariffs[name] = RowTariff(self._origin, name, self._rows[name], self._exchange)
        return self._tariffs[name]


def _compiled(row: RowConfig) -> _Row:
    zone = ZoneInfo(row.zone)
    begin = -inf if row.effective_from is None else _seconds(row.effective_from, zone)
    end = inf if row.effective_until is None else _seconds(row.effective_until, zone)
    holidays = tuple(frozenset(window.but_on) for window in row.windows)
    return _Row(row, begin, end, zone, tuple(_window(window) for window in row.windows), holidays)


def _window(config: TimesConfig) -> Window:
    start, end = minute_of(config.start), minute_of(config.end)
    return Window(days_of(config.days), start, end if end > start else end + 24 * 60, config.name, config.name)


def _seconds(moment: date, zone: ZoneInfo) -> float:
    """A moment, or the midnight with which a day begins, as seconds since 1970 UTC."""
    if isinstance(moment, datetime):
        return moment.astimezone(UTC).timestamp()
    return datetime(moment.year, moment.month, moment.day, tzinfo=zone).timestamp()


def _price(config: FiguresConfig, per_usd: Fraction, version: str) -> Price:
    figures = {name: Fraction(value) for name in FIGURES if (value := getattr(config, name)) is not None}
    other = {name: Fraction(value) for name, value in config.other.items()}
    return price_of(figures, other, per_usd, version)


def _priced_by(row: RowConfig) -> dict[str, object]:
    return {name: value for name, value in as_written(row).items() if name not in _ALIKE}


def _digest(content: object) -> str:
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()
