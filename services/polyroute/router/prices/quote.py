"""What a price list answers: a price, who says so, and for how long."""

from collections.abc import Mapping
from fractions import Fraction
from math import inf
from typing import Final, NamedTuple, Protocol

from polyroute.api.router.v1.router_pb2 import Price
from polyroute.router.fields import NANOS

HOUR_OF_CACHE: Final = "ephemeral_1h_input_tokens"  # of the tokens written to the cache, those that stay an hour
_MILLION: Final = 1_000_000
_MINUTE_MILLISECONDS: Final = 60_000
COUNTED: Final = {"image": "images", "audio_minute": "audio_milliseconds"}
"""What is charged per unit and not per million, and the name that usage has for the unit."""
_UNITS: Final = {"image": Fraction(_MILLION), "audio_minute": Fraction(_MILLION, _MINUTE_MILLISECONDS)}  # in a million
_PLAIN: Final = ("input", "output", "cache_read", "cache_write", "reasoning", "request")


class Quote(NamedTuple):
    """A price at a moment.

    Args:
        price: Nano-USD; None when it is unknown.
        until: Seconds since 1970 UTC of the first moment at which it may be another one; infinite for never.
        origin: The list: `catalog`, `prices`, `overlay`, `genai-prices`, `provider`; empty when it is in none.
        row: The name in the list.
        currency: Of the list's figures.
        source: Where they are published.
        checked: When they were last compared with that, YYYY-MM-DD.
    """

    price: Price | None
    until: float = inf
    origin: str = ""
    row: str = ""
    currency: str = ""
    source: str = ""
    checked: str = ""


NOTHING: Final = Quote(None)


class Tariff(Protocol):
    """What a list says of one model, at all times."""

    @property
    def version(self) -> str:
        """A digest of all that it says."""

    @property
    def always(self) -> bool:
        """It says something of every moment."""

    def quote(self, moment: float) -> Quote:
        """What holds at a moment; without an origin when the list says nothing of that time."""


def nanos(figure: Fraction, per_usd: Fraction, units: Fraction = Fraction(1)) -> int:
    """A figure in nano-USD, rounded to the nearest, a half to the even one.

    Args:
        figure: In some currency.
        per_usd: Units of that currency for one US dollar.
        units: How many of what the figure counts the result counts.
    """
    return round(figure * units * NANOS / per_usd)


def price_of(figures: Mapping[str, Fraction], other: Mapping[str, Fraction], per_usd: Fraction, version: str) -> Price:
    """Figures of a list as a price.

    Args:
        figures: By the names of `config.FIGURES`, what is missing stays unset.
        other: Per million of other units.
        per_usd: Units of the figures' currency for one US dollar.
        version: Names the row.
    """
    price = Price(version=version)
    for name in _PLAIN:
        if name in figures:
            setattr(price, name, nanos(figures[name], per_usd))
    for name, figure in other.items():
        price.other[name] = nanos(figure, per_usd)
    for name, unit in COUNTED.items():
        if name in figures:
            price.other[unit] = nanos(figures[name], per_usd, _UNITS[name])
    if "cache_write_1h" in figures:
        usual = price.cache_write if price.HasField("cache_write") else price.input
        price.other[HOUR_OF_CACHE] = nanos(figures["cache_write_1h"], per_usd) - usual
    return price
