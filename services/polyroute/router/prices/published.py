"""The base of all prices: the data of the package `genai-prices`, which ships with this one and asks nobody.

Its figures are USD per million tokens, decimal; those that we have a bucket for are taken over exactly. A model that
lacks one of the needed figures has no price here: what is missing is unknown, not free.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache, lru_cache
from importlib.metadata import version as installed
from math import inf
from typing import Any, Final

from polyroute.api.router.v1.router_pb2 import Price, PriceTier
from polyroute.router.prices.quote import NOTHING, Quote, price_of

ORIGIN: Final = "genai-prices"
CURRENCY: Final = "USD"
# Figures of a price list, and where the data has them, in USD per million tokens.
_MEMBERS: Final = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "reasoning": "output_reasoning_mtok",
}
# Units that answers report beside tokens, and where the data has them, in USD per thousand.
_COUNTED: Final = {"web_search_requests": "web_searches_kcount"}
_THOUSANDS: Final = 1000  # in a million
_KEPT: Final = 4096


class Published:
    """What the package says of the models of all vendors; read when it is first asked, which takes half a second."""

    def __init__(self) -> None:
        self._tariff = lru_cache(_KEPT)(self._found)

    def tariff(self, book: str, model: str, *, answers: bool = True) -> "PublishedTariff | None":
        """What it says of a model; None when nothing.

        Args:
            book: The vendor's name there.
            model: The model in the vendor's words.
            answers: The model gives tokens, so that a price without them is none.
        """
        return self._tariff(book, model, answers) if book else None

    def _found(self, book: str, model: str, answers: bool) -> "PublishedTariff | None":
        provider = _providers().get(book)
        if provider is None:
            return None
        info = _by_id(book).get(model.lower()) or provider.find_model(model, all_providers=list(_providers().values()))
        return None if info is None else PublishedTariff(book, info, answers=answers)


class PublishedTariff:
    """What the package says of one model.

    Args:
        book: The vendor's name there.
        info: The model there.
        answers: As `Published.tariff`.
    """

    def __init__(self, book: str, info: Any, *, answers: bool = True) -> None:
        self._book = book
        self._info = info
        self._needed = ("input", "output") if answers else ("input",)
        self._version = f"{ORIGIN} {_release()} {book}/{info.id}"
        self._since = inf
        self._last = NOTHING

    @property
    def version(self) -> str:
        """The release of the package and the model's name there: releases do not change."""
        return self._version

    @property
    def always(self) -> bool:
        """It may lack a figure; then nothing comes after it that has one."""
        return False

    def quote(self, moment: float) -> Quote:
        """What holds at a moment; the last answer is kept while it holds, for catalogs are made again and again."""
        if not self._since <= moment < self._last.until:
            self._since, self._last = moment, self._quoted(moment)
        return self._last

    def _quoted(self, moment: float) -> Quote:
        now = datetime.fromtimestamp(moment, UTC)
        price = price_at(self._info, now, needed=self._needed, version=f"{self._version}{_part(self._info, now)}")
        if price is None:
            return NOTHING._replace(until=self._turns(now))
        return Quote(price, self._turns(now), ORIGIN, f"{self._book}/{self._info.id}", CURRENCY, *self._said())

    def _said(self) -> tuple[str, str]:
        pages = getattr(_providers()[self._book], "pricing_urls", None) or [""]
        checked = getattr(self._info, "prices_checked", None)
        return str(pages[0]), checked.isoformat() if checked else ""

    def _turns(self, now: datetime) -> float:
        prices = self._info.prices
        constraints = [one.constraint for one in prices] if isinstance(prices, list) else []
        edges = (edge for one in constraints if one is not None for edge in _edges(one, now))
        return min((edge.timestamp() for edge in edges if edge > now), default=inf)


def price_at(info: Any, now: datetime, *, needed: Iterable[str], version: str = ORIGIN) -> Price | None:
    """What a model of the data charges at a moment; None where a needed figure is missing.

    Args:
        info: The model, as the package has it.
        now: The moment.
        needed: Names of `config.FIGURES`.
        version: Names the price.
    """
    prices = info.get_prices(now)
    figures = vars(prices)  # asked for an attribute that it lacks, it searches its units first
    if any(figures.get(_MEMBERS[name]) is None for name in needed):
        return None
    price = _price(prices, 0, version)
    for bound in sorted({tier.start for member in _MEMBERS.values() for tier in _tiers(figures.get(member))}):
        price.tiers.append(PriceTier(above=bound, price=_price(prices, bound, version)))
    return price


def _price(prices: Any, bound: int, version: str) -> Price:
    """What calls are charged whose prompt is longer than `bound`."""
    figures = _figures(prices, _MEMBERS, bound)
    figures.setdefault("output", Fraction(0))  # of what gives no tokens
    other = {name: figure * _THOUSANDS for name, figure in _figures(prices, _COUNTED, bound).items()}
    if "cache_write" not in figures:
        figures.pop("cache_write_1h", None)
    return price_of(figures, other, Fraction(1), version)


def _figures(prices: Any, members: Mapping[str, str], bound: int) -> dict[str, Fraction]:
    given = vars(prices)
    found = {name: _figure(given.get(member), bound) for name, member in members.items()}
    return {name: figure for name, figure in found.items() if figure is not None}


def _figure(value: Any, bound: int) -> Fraction | None:
    """A figure, or what it is for prompts longer than `bound`."""
    for tier in _tiers(value):
        if tier.start <= bound and bound:
            found: Decimal = tier.price
            return Fraction(found)
    plain = getattr(value, "base", value)
    return Fraction(plain) if isinstance(plain, Decimal) else None


def _tiers(value: Any) -> list[Any]:
    """The tiers of a figure, the longest first."""
    return list(reversed(getattr(value, "tiers", [])))


def _part(info: Any, now: datetime) -> str:
    """Which of a model's prices holds, as a part of its version; empty where there is only one."""
    if not isinstance(info.prices, list):
        return ""
    found = info.get_prices(now)
    return next(f"#{i}" for i, one in enumerate(info.prices) if one.prices is found)


def _edges(constraint: Any, now: datetime) -> Iterable[datetime]:
    """The moments around `now` at which a condition may begin or cease to hold."""
    start = getattr(constraint, "start_date", None)
    if start is not None:
        yield datetime.combine(start, time(), UTC)
        return
    for edge in (constraint.start_time, constraint.end_time):
        aware = edge if edge.tzinfo is not None else edge.replace(tzinfo=UTC)
        first = datetime.combine(now.date() - timedelta(days=1), aware)
        yield from (first + timedelta(days=day) for day in range(4))


@cache
def _providers() -> Mapping[str, Any]:
    from genai_prices.data import providers

    return {provider.id: provider for provider in providers}


@cache
def _by_id(book: str) -> Mapping[str, Any]:
    """The models of a vendor by their exact ids: of hundreds of models, most are asked for by those."""
    return {info.id.lower(): info for info in reversed(_providers()[book].models)}


@cache
def _release() -> str:
    return installed("genai-prices")
