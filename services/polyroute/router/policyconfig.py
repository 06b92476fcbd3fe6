"""The sections `policies` and `routing` of the configuration file: how deployments are ranked, and what rules when.

    policies:
      quick: {sort: [{by: latency, percentile: p90, tolerance: 0.1}, throughput]}
      frugal: {sort: [output_price, input_price], max_price: {output: "8"}}
      inland: {region: [cn], zdr: true, tiers: [[east], [west, hub/cn-north]], sticky: user, cache_affinity: 1}
    routing:
      policy: office                                  # what rules when no rule matches
      rules:                                          # the first that matches
        - {policy: inland, projects: [prj_01], models: [large]}
        - {policy: frugal, tags: {purpose: batch}}
      schedules:
        office:
          zone: Asia/Shanghai
          windows: [{days: mon-fri, start: "09:00", end: "18:00", policy: quick}]
          load: {above: 200, below: 150, policy: frugal}
          otherwise: frugal
      auto:
        models: [large, small]                        # what `auto` may choose, the best first
        classes: {code: {models: [large], policy: quick}}

Prices are USD per million tokens or calls, per picture and per minute of sound, times are seconds, lengths are tokens,
throughputs tokens per second.
"""

import re
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from polyroute.mesh.config import Section
from polyroute.router.fields import Name, Nanos, Quantization, Seconds, Tokens, Word

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES: Final = 24 * 60
_CLOCK: Final = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])")

SortWord = Literal[
    "input_price",
    "output_price",
    "price",
    "latency",
    "throughput",
    "success_rate",
    "input_length",
    "output_length",
]
Percentile = Literal["p50", "p75", "p90", "p99"]
Amount = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
Exponent = Annotated[float, Field(ge=0, le=16, allow_inf_nan=False)]


def minute_of(text: str) -> int:
    """`HH:MM` as minutes since midnight; `24:00` is the day's end.

    Raises:
        ValueError: It is no such time.
    """
    match = _CLOCK.fullmatch(text)
    minute = int(match[1]) * 60 + int(match[2]) if match else _DAY_MINUTES + 1
    if minute > _DAY_MINUTES:
        raise ValueError(f"{text!r} is not a time of day such as 09:30")
    return minute


def days_of(text: str) -> frozenset[int]:
    """`mon-fri`, `sat,sun` or `fri-mon,wed` as numbers of days, Monday being 0.

    Raises:
        ValueError: A word in it is no day.
    """
    found: set[int] = set()
    for part in text.lower().replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        start, end = (_day(one) for one in (first, last if dash else first))
        found.update((start + i) % 7 for i in range((end - start) % 7 + 1))
    return frozenset(found)


def _day(word: str) -> int:
    if word[:3] not in DAYS or not word.isalpha():
        raise ValueError(f"{word!r} is not a day; days are {', '.join(DAYS)}")
    return DAYS.index(word[:3])


def _days(value: object) -> object:
    return ",".join(value) if isinstance(value, list) and all(isinstance(one, str) for one in value) else value


def _checked_days(text: str) -> str:
    days_of(text)
    return text


def _checked_clock(text: str) -> str:
    minute_of(text)
    return text


def _checked_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone such as Asia/Shanghai") from None
    return name


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _keys(value: object) -> object:
    """Sort keys: one or a list, each a word or a section."""
    values = value if isinstance(value, list | tuple) else [value]
    return [{"by": one} if isinstance(one, str) else one for one in values]


Clock = Annotated[str, AfterValidator(_checked_clock)]
DayList = Annotated[str, AfterValidator(_checked_days), BeforeValidator(_days, json_schema_input_type=str | list[str])]
Zone = Annotated[str, AfterValidator(_checked_zone)]
Words = Annotated[
    tuple[Word, ...], Field(max_length=256), BeforeValidator(_listed, json_schema_input_type=str | list[str])
]


class SortConfig(Section):
    """One sort key; also written as its word."""

    by: SortWord = Field(description="what is compared")
    order: Literal["asc", "desc"] | None = Field(default=None, description="which end is first; unset: the better one")
    percentile: Percentile | None = Field(
        default=None, description="of a live figure; unset: p90 for latency, p50 for throughput; p75 is read as p90"
    )
    tolerance: float | None = Field(
        default=None,
        ge=0,
        le=10,
        description="fraction of the best within which values are equal; unset: 0.1 for live speeds before another key",
    )


Sort = Annotated[
    tuple[SortConfig, ...],
    Field(max_length=8),
    BeforeValidator(_keys, json_schema_input_type=str | list[str | SortConfig]),
]


class PriceRange(Section):
    """Bounds of a price, both included, USD per million tokens."""

    min: Nanos | None = Field(default=None, description="the least")
    max: Nanos | None = Field(default=None, description="the greatest")


class NumberRange(Section):
    """Bounds of a number, both included."""

    min: Amount | None = Field(default=None, description="the least")
    max: Amount | None = Field(default=None, description="the greatest")


class LengthRange(Section):
    """Bounds of a length in tokens, both included."""

    min: Tokens | None = Field(default=None, description="the least")
    max: Tokens | None = Field(default=None, description="the greatest")


class MaxPriceConfig(Section):
    """Highest prices, USD, in the units of `prices.models` and of a caller's `max_price`."""

    input: Nanos | None = Field(default=None, description="per million prompt tokens")
    output: Nanos | None = Field(default=None, description="per million tokens of the answer")
    request: Nanos | None = Field(default=None, description="per million calls")
    image: Nanos | None = Field(default=None, description="per picture")
    audio: Nanos | None = Field(default=None, description="per minute of sound")


class ExponentsConfig(Section):
    """Exponents of the score that shares are made of where nothing is sorted."""

    price: Exponent = Field(default=2.0, description="of 1/price: 2 gives half the price four times the share")
    reliability: Exponent = Field(default=3.0, description="of the success rate")
    speed: Exponent = Field(default=0.5, description="of 1/latency")


class PolicyTimeouts(Section):
    """Times, in seconds, that stand above the deployments' own."""

    connect: Seconds | None = Field(default=None, description="TCP and TLS")
    first_token: Seconds | None = Field(
        default=None, description="from sending to the first content; bounds an answer that is not streamed as well"
    )
    inter_token: Seconds | None = Field(default=None, description="between two events of a stream")
    total: Seconds | None = Field(default=None, description="the whole call")


class PolicyConfig(Section):
    """A rule set: who may serve, and who is tried first.

    Filters hold for every call under the policy, whatever the caller wants beside them. The caller's own `order` and
    `sort` stand instead of these unless the policy is `final`. Names are those of providers, of deployments, or of a
    provider in a region as `provider/region`.
    """

    only: Words = Field(default=(), description="only these")
    ignore: Words = Field(default=(), description="none of these")
    region: Words = Field(default=(), description="only where it runs in one of these; `cn` holds `cn-beijing` too")
    tags: Words = Field(default=(), description="only with every one of these")
    quantizations: tuple[Quantization | Literal["unknown"], ...] = Field(default=(), description="only these formats")
    data_collection: Literal["allow", "deny"] = Field(
        default="allow", description="`deny`: only those known to neither train on prompts nor retain them"
    )
    zdr: bool = Field(default=False, description="only where nothing is retained")
    input_price: PriceRange | None = Field(default=None, description="price of prompt tokens")
    output_price: PriceRange | None = Field(default=None, description="price of tokens of the answer")
    max_price: MaxPriceConfig | None = Field(default=None, description="highest prices")
    throughput: NumberRange | None = Field(default=None, description="live tokens per second, median")
    latency: NumberRange | None = Field(default=None, description="live seconds to the first content, P90")
    input_length: LengthRange | None = Field(default=None, description="longest prompt and answer that it takes")
    output_length: LengthRange | None = Field(default=None, description="longest answer that it gives")
    allow_fallbacks: bool = Field(
        default=True, description="lift the filters on live figures and lengths when they leave nobody"
    )
    order: Words = Field(default=(), description="tried first, in this order")
    tiers: tuple[Words, ...] = Field(
        default=(), max_length=64, description="priorities instead of the deployments' own"
    )
    regions: Words = Field(default=(), description="tried in this order, or `nearest`: by live latency")
    sort: Sort = Field(default=(), description="who is first; none: a share for each by its score")
    min_throughput: Amount | None = Field(default=None, description="who is slower goes after the others, median")
    max_latency: Amount | None = Field(default=None, description="who takes more seconds goes after the others, median")
    score: ExponentsConfig = Field(default=ExponentsConfig(), description="what shares are made of")
    explore: float = Field(
        default=0.02, ge=0, le=1, description="share of calls that go to a deployment of unknown figures"
    )
    sticky: Literal["none", "key", "project", "user"] = Field(
        default="none", description="whose calls stay at one deployment among equals"
    )
    cache_affinity: Amount = Field(
        default=0.0, description="how much of what a vendor's cache saves counts for staying; needs `sticky`"
    )
    final: bool = Field(default=False, description="the caller's own order and sort are not heard")
    max_attempts: int | None = Field(default=None, ge=1, le=10, description="most attempts; unset: the router's")
    hedge: bool = Field(
        default=False, description="ask a second deployment too when the first is late, for 2 calls in 100 at most"
    )
    content_policy_fallback: Name | None = Field(
        default=None,
        description="model or alias that is asked once when a vendor's content filter refused a call and nothing was "
        "handed out; unset: the refusal stands",
    )
    timeouts: PolicyTimeouts = Field(default=PolicyTimeouts(), description="times above the deployments'")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        both = {name.casefold() for name in self.only} & {name.casefold() for name in self.ignore}
        if both:
            raise ValueError(f"only and ignore both name {', '.join(sorted(both))}")
        for name in ("input_price", "output_price", "throughput", "latency", "input_length", "output_length"):
            bounds = getattr(self, name)
            if bounds and bounds.min is not None and bounds.max is not None and bounds.min > bounds.max:
                raise ValueError(f"{name} begins above its end")
        return self


class WindowConfig(Section):
    """A time of the week at which a policy rules; an end that is not after the start is on the next day."""

    days: DayList = Field(default="mon-sun", description="on which days it begins, such as `mon-fri` or `sat,sun`")
    start: Clock = Field(default="00:00", description="first minute")
    end: Clock = Field(default="24:00", description="first minute after it")
    policy: Name = Field(description="what rules")


class LoadConfig(Section):
    """A policy for busy times, by the calls per second of all deployments together, over the last minute."""

    above: float = Field(gt=0, le=1e9, description="it begins to rule at this many calls per second")
    below: float = Field(ge=0, le=1e9, description="and stops at this many; lower, so that it does not flap")
    policy: Name = Field(description="what rules")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.below >= self.above:
            raise ValueError("below must be less than above, or the policy would flap at the threshold")
        return self


class ScheduleConfig(Section):
    """Which policy rules when; stands wherever a policy's name may stand. Load comes first, then the first window."""

    zone: Zone = Field(default="UTC", description="time zone of the windows, such as `Asia/Shanghai`")
    windows: tuple[WindowConfig, ...] = Field(default=(), max_length=256, description="the first that holds now rules")
    load: LoadConfig | None = Field(default=None, description="rules while there is much to do")
    otherwise: Name = Field(description="what rules at all other times")


class RuleConfig(Section):
    """Which calls a policy rules: those that meet every condition given."""

    policy: Name = Field(description="a policy or a schedule")
    models: Words = Field(default=(), description="the model is one of these")
    aliases: Words = Field(default=(), description="it was asked for by one of these aliases")
    projects: Words = Field(default=(), description="the caller's project is one of these")
    keys: Words = Field(default=(), description="the caller's key is one of these, by id or name")
    tags: dict[Word, Word] = Field(default={}, description="the call, its key or its project has these tags")


class ClassConfig(Section):
    """What `auto` does with a class of content."""

    models: Words = Field(default=(), description="models it may choose, the best first; unset: those of `auto`")
    policy: Name | None = Field(default=None, description="what ranks them for plain `auto`; unset: the lowest price")


class AutoRuleConfig(Section):
    """A row of the table that classifies calls: all its conditions must hold."""

    name: Word = Field(description="the class")
    urgency: Literal["low", "normal", "high"] | None = Field(default=None, description="how soon it is wanted")
    code: bool | None = Field(default=None, description="it holds program code")
    tools: bool | None = Field(default=None, description="it offers tools")
    vision: bool | None = Field(default=None, description="it holds pictures")
    min_tokens: int | None = Field(default=None, ge=0, description="the prompt has at least this many tokens")
    max_tokens: int | None = Field(default=None, ge=0, description="and at most this many")


class AutoConfig(Section):
    """What `auto` chooses among, and how it tells calls apart."""

    models: Words = Field(default=(), description="models it may choose, the best first; none: there is no `auto`")
    classes: dict[Word, ClassConfig] = Field(default={}, description="what is special for a class")
    rules: tuple[AutoRuleConfig, ...] = Field(
        default=(), max_length=64, description="the first that holds gives the class; unset: a table of seven classes"
    )


class RoutingConfig(Section):
    """Which policy rules which call, and what `auto` means."""

    policy: Name = Field(default="default", description="what rules when no rule matches: a policy or a schedule")
    rules: tuple[RuleConfig, ...] = Field(default=(), max_length=1000, description="the first that matches rules")
    schedules: dict[Name, ScheduleConfig] = Field(default={}, description="calendars and load switches, by name")
    auto: AutoConfig = Field(default=AutoConfig(), description="the model `auto`")
