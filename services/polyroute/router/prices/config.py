"""How a price list is written: the section `prices` of the configuration, and the list that comes with the project.

    prices:
      models:
        east/large-2:
          - {currency: CNY, input: "0.8", output: "2", effective_from: 2026-10-01, source: "https://..."}
        east/mini-*: {input: "0.10", output: "0.40", cache_read: "0.01", checked: 2026-11-20}
        west/deep:
          input: 2
          output: 8
          zone: Asia/Shanghai
          windows:
            - {name: off-peak, start: "18:00", end: "09:00", input: 1, output: 4}
          tiers: [{above: 128000, input: 4, output: 16}]
      exchange:
        CNY: [{per_usd: "7.10", since: 2026-01-01}]

A name is `provider/model`: the provider as the catalog or as the price lists call it, the model's upstream id, in which
`*` stands for anything. Figures are in the row's currency per million tokens unless they say otherwise, decimal and
read exactly. Of several rows of a name the one that came into effect last holds.
"""

import re
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from polyroute.mesh.config import Section
from polyroute.router.fields import NANOS, Name, Word
from polyroute.router.policyconfig import Clock, DayList, Zone

USD: Final = "USD"
MOST: Final = Decimal(10**9)  # of one figure: beyond what a nano-dollar price can hold, and beyond any price
FIGURES: Final = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "reasoning",
    "request",
    "image",
    "audio_minute",
)

_BESIDE_TOKENS: Final = ("request", "image", "audio_minute")


def amount(value: object) -> Decimal:
    """A figure of a price list, exactly.

    Args:
        value: A decimal string or a number; a float counts as its shortest decimal form, so 0.1 is 0.1.

    Raises:
        ValueError: It is no number, negative, or beyond any price.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError("a figure is a number or a decimal string")  # noqa: TRY004 - pydantic's form
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a decimal number") from None
    if not found.is_finite() or not 0 <= found <= MOST:
        raise ValueError(f"the figure {value!r} is out of range")
    return found


def _dated(value: object) -> object:
    """A day stays one and a moment one: YAML gives them as they are, JSON and command lines give texts."""
    if not isinstance(value, str):
        return value
    return date.fromisoformat(value) if len(value) == len("2026-01-31") else datetime.fromisoformat(value)


def _with_zone(value: date | datetime) -> date | datetime:
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError("a moment needs its offset, such as 2026-10-01T00:00+08:00; a day does not")
    return value


def _checked_row_name(name: str) -> str:
    provider, slash, model = name.partition("/")
    if not slash or not provider or not model or "*" in provider:
        raise ValueError(f"{name!r} is not of the form provider/model")
    return name


def _checked_currency(name: str) -> str:
    if not re.fullmatch("[A-Z]{3}", name):
        raise ValueError(f"{name!r} is not a currency such as CNY")
    return name


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


Amount = Annotated[Decimal, BeforeValidator(amount), WithJsonSchema({"type": ["string", "number"]})]
Currency = Annotated[str, AfterValidator(_checked_currency)]
Day = Annotated[date, BeforeValidator(_dated)]
Moment = Annotated[date | datetime, BeforeValidator(_dated), AfterValidator(_with_zone)]
RowName = Annotated[Name, AfterValidator(_checked_row_name)]


def check_units(figures: Any) -> None:
    """Whether a price says enough: what it charges for tokens, or for something that is not tokens.

    Args:
        figures: With `FIGURES` and `other` as attributes.

    Raises:
        ValueError: It does not; a forgotten price must not become a free one.
    """
    missing = [name for name in ("input", "output") if getattr(figures, name) is None]
    if missing and not figures.other and all(getattr(figures, name) is None for name in _BESIDE_TOKENS):
        raise ValueError(f"{' and '.join(missing)}: needed where nothing but tokens is charged")


class FiguresConfig(Section):
    """What is charged, in the row's currency per million tokens.

    `input` and `output` are needed unless something else is charged: a call, a picture, a minute of sound, `other`.
    """

    input: Amount | None = Field(default=None, description="per million uncached prompt tokens")
    output: Amount | None = Field(default=None, description="per million tokens of the answer")
    cache_read: Amount | None = Field(default=None, description="per million tokens read from cache; unset: as input")
    cache_write: Amount | None = Field(
        default=None, description="per million tokens written to cache for the usual time; unset: as input"
    )
    cache_write_1h: Amount | None = Field(
        default=None, description="per million tokens written to cache for an hour; unset: as cache_write"
    )
    reasoning: Amount | None = Field(default=None, description="per million reasoning tokens; unset: as output")
    request: Amount | None = Field(default=None, description="per million calls; unset: nothing")
    image: Amount | None = Field(default=None, description="per picture; unset: nothing")
    audio_minute: Amount | None = Field(default=None, description="per minute of sound; unset: nothing")
    other: dict[Word, Amount] = Field(default={}, description="per million of other units, such as web_search_requests")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        check_units(self)
        return self

    @property
    def said(self) -> frozenset[str]:
        """The figures that it gives."""
        return frozenset(name for name in FIGURES if getattr(self, name) is not None) | frozenset(self.other)


class TierConfig(FiguresConfig):
    """What longer calls are charged instead, as a whole."""

    above: int = Field(default=0, ge=0, le=10**9, description="tokens of the prompt that a call must exceed")
    answer_above: int = Field(default=0, ge=0, le=10**9, description="tokens of the answer that it must exceed as well")
    reasoned: bool = Field(default=False, description="only calls whose answer has reasoning tokens")


class TimesConfig(FiguresConfig):
    """What is charged at some times of the week instead."""

    name: Word = Field(default="window", description="what the time is called, such as peak")
    start: Clock = Field(description="first minute, such as 09:00")
    end: Clock = Field(description="first minute after it; on the next day when not after `start`")
    days: DayList = Field(default="mon-sun", description="on which it begins")
    but_on: tuple[Day, ...] = Field(
        default=(), max_length=1000, description="days on which it does not begin, holidays"
    )
    tiers: tuple[TierConfig, ...] = Field(default=(), max_length=16, description="for longer calls, then")


class RowConfig(FiguresConfig):
    """One row of a price list: what a model charges in some time."""

    currency: Currency = Field(default=USD, description="of all figures")
    tiers: tuple[TierConfig, ...] = Field(default=(), max_length=16, description="for longer calls; the last that fits")
    windows: tuple[TimesConfig, ...] = Field(
        default=(), max_length=16, description="for some times of the week; the first that fits"
    )
    zone: Zone = Field(default="UTC", description="of the windows and of days without a time")
    effective_from: Moment | None = Field(default=None, description="first moment; a day begins at midnight")
    effective_until: Moment | None = Field(default=None, description="first moment that is not included")
    source: str = Field(default="", max_length=512, description="where the figures are published")
    via: str = Field(default="", max_length=512, description="where they were read, if not there")
    checked: Day | None = Field(default=None, description="when they were last compared")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Every part says all that the row says: what it left out would be charged as something else."""
        parts: list[tuple[str, FiguresConfig]] = [(f"tiers[{i}]", tier) for i, tier in enumerate(self.tiers)]
        for i, window in enumerate(self.windows):
            parts.append((f"windows[{i}]", window))
            parts += [(f"windows[{i}].tiers[{j}]", tier) for j, tier in enumerate(window.tiers)]
            if self.tiers and [_bounds(tier) for tier in window.tiers] != [_bounds(tier) for tier in self.tiers]:
                raise ValueError(f"windows[{i}].tiers: must have the bounds of the row's own tiers")
        for place, part in parts:
            if part.said != self.said:
                odd = ", ".join(sorted(part.said ^ self.said))
                raise ValueError(f"{place}: must give the same figures as the row; differs in {odd}")
        return self

    @model_validator(mode="after")
    def _exact(self) -> Self:
        """What is said in dollars is charged to the nano-dollar."""
        figures = (self, *self.tiers, *self.windows, *(tier for window in self.windows for tier in window.tiers))
        for one in figures if self.currency == USD else ():
            for name in FIGURES[:7]:
                value = getattr(one, name)
                if value is not None and value * NANOS != int(value * NANOS):
                    raise ValueError(f"{name}: {value} is finer than a nano-dollar")
        return self


def _bounds(tier: TierConfig) -> tuple[int, int, bool]:
    return tier.above, tier.answer_above, tier.reasoned


class ExchangeConfig(Section):
    """What a dollar costs from a day on."""

    per_usd: Annotated[Amount, Field(gt=0)] = Field(description="units of the currency for one US dollar")
    since: Day = Field(description="first day, UTC")
    source: str = Field(default="", max_length=512, description="where the rate is published")


Rows = Annotated[
    tuple[RowConfig, ...],
    Field(max_length=1000),
    BeforeValidator(_listed, json_schema_input_type=RowConfig | list[RowConfig]),
]
Rates = Annotated[
    tuple[ExchangeConfig, ...],
    Field(min_length=1, max_length=10_000),
    BeforeValidator(_listed, json_schema_input_type=ExchangeConfig | list[ExchangeConfig]),
]


class PricesConfig(Section):
    """A price list."""

    models: dict[RowName, Rows] = Field(default={}, description="what models charge, by `provider/model`")
    exchange: dict[Currency, Rates] = Field(default={}, description="what a dollar costs, by currency")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        for name, rows in self.models.items():
            begins = [str(row.effective_from) for row in rows]
            if len(set(begins)) < len(begins):
                raise ValueError(f"models.{name}: two rows come into effect at the same time")
        return self
