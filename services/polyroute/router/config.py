"""The router's part of the configuration file: `models`, `aliases`, `policies`, `routing` and `router`.

    models:
      large:
        deployments:
          - {provider: east, model: large-2, priority: 0, weight: 3, price: {input: "2.00", output: "10.00"}}
          - west/large-2                # short for {provider: west, model: large-2}
      vectors: {operations: [embedding], deployments: [own/bge-m3]}
    aliases:
      smart: large
      fast: {large: 90, small: 10}      # by weight
      beta: {targets: {large: 95, next: 5}, sticky: key}
      main: {targets: large, rollout: {to: next, steps: [1, 5, 25, 100], every: 10m, guards: {error_rate: 0.05}}}
    router: {max_attempts: 3, timeouts: {first_token: 60}}

Policies and what chooses among them are in `policyconfig`. These models check what one value can tell; what needs the
whole catalog (names that must exist, cycles, doubles) is checked by `build`. Prices are USD per million units, read
exactly: `"0.2"` is 200_000_000 nano-USD, and a price finer than a nano-dollar is refused. Times are seconds.
"""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from polyroute.mesh.config import Section
from polyroute.router.fields import CapabilityWord, Nanos, OperationWord, Quantization, Seconds, Tokens, Weight, Word
from polyroute.router.fields import Name as Name  # part of this module's face: whoever reads a catalog needs it
from polyroute.router.policyconfig import PolicyConfig, RoutingConfig
from polyroute.router.prices.config import PricesConfig, check_units
from polyroute.router.prices.quote import COUNTED

_SPAN: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DEAREST: Final = 9_000_000_000_000  # nano-USD: a million of them are an int64 still
_TIMES: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?x")


class PriceConfig(Section):
    """What a deployment charges, USD per million tokens unless it says otherwise; read as nano-USD.

    `input` and `output` are needed unless something else is charged: a call, a picture, a minute of sound, `other`.
    """

    input: Nanos | None = Field(default=None, description="per million uncached prompt tokens")
    output: Nanos | None = Field(default=None, description="per million tokens of the answer")
    cache_read: Nanos | None = Field(default=None, description="per million tokens read from cache; unset: as input")
    cache_write: Nanos | None = Field(default=None, description="per million tokens written to cache; unset: as input")
    cache_write_1h: Nanos | None = Field(
        default=None, description="per million tokens written to cache for an hour; unset: as cache_write"
    )
    reasoning: Nanos | None = Field(default=None, description="per million reasoning tokens; unset: as output")
    request: Nanos | None = Field(default=None, description="per million calls; unset: nothing")
    image: Nanos | None = Field(default=None, le=_DEAREST, description="per picture; unset: nothing")
    audio_minute: Nanos | None = Field(default=None, description="per minute of sound; unset: nothing")
    other: dict[str, Nanos] = Field(
        default_factory=dict,
        description="per million of other units: `images`, `audio_milliseconds`, `web_search_requests`, ...",
    )
    version: str = Field(default="catalog", max_length=128, description="where the price comes from, and as of when")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        check_units(self)
        for name, unit in COUNTED.items():
            if getattr(self, name) is not None and unit in self.other:
                raise ValueError(f"{name} and other.{unit} are two prices of the same")
        return self


class TimeoutsConfig(Section):
    """How long each step of an attempt may take, in seconds; what is unset is inherited from `router.timeouts`."""

    connect: Seconds | None = Field(default=None, description="TCP and TLS")
    first_token: Seconds | None = Field(
        default=None, description="from sending to the first content; bounds an answer that is not streamed as well"
    )
    inter_token: Seconds | None = Field(default=None, description="between two events of a stream")
    total: Seconds | None = Field(default=None, description="the whole call")


class DefaultTimeouts(Section):
    """The times, in seconds, for deployments that say nothing."""

    connect: Seconds = Field(default=5.0, description="TCP and TLS")
    first_token: Seconds | None = Field(
        default=None,
        description="from sending to the first content; bounds an answer that is not streamed as well."
        " Unset: 60, where a model reasons 300, and an answer that is not streamed may take the whole call's time",
    )
    inter_token: Seconds | None = Field(
        default=None, description="between two events of a stream. Unset: 30, where a model reasons 120"
    )
    total: Seconds = Field(default=600.0, description="the whole call")


class DataConfig(Section):
    """What a provider does with prompts and answers, as its terms say; what is unset is unknown."""

    trains: bool | None = Field(default=None, description="it trains on them")
    retains: bool | None = Field(default=None, description="it keeps them longer than serving takes")
    zdr: bool | None = Field(default=None, description="it keeps nothing at all, by contract")


class DeploymentConfig(Section):
    """One provider serving one model; also written as the string `provider/model`.

    What is unset is taken from what the provider says of the model. Where that says nothing either, a deployment is
    taken to be able of everything and its price and limits are unknown; a list of capabilities is exact, also an empty
    one.
    """

    provider: Name = Field(max_length=128, description="name of the provider")
    model: Name = Field(description="the model's id in the vendor's words")
    name: Name | None = Field(default=None, description="unique; default: `provider/model`, with `#2` when taken")
    region: str = Field(default="", max_length=128, description="where it runs, in your words")
    priority: int = Field(default=0, ge=0, le=1000, description="lower is tried first")
    weight: Weight = Field(default=1, description="share among the deployments of the same priority")
    price: PriceConfig | None = Field(default=None, description="what it charges")
    capabilities: tuple[CapabilityWord, ...] | None = Field(default=None, description="what it can do; unset: all")
    context: Tokens | None = Field(default=None, description="longest prompt and answer together, in tokens")
    max_output: Tokens | None = Field(default=None, description="longest answer, in tokens")
    quantization: Quantization | None = Field(default=None, description="format of its weights; unset: unknown")
    data: DataConfig = Field(default=DataConfig(), description="what becomes of prompts there")
    tags: tuple[Word, ...] = Field(
        default=(), max_length=64, description="your own words for it; policies filter by them"
    )
    max_concurrency: int = Field(default=0, ge=0, le=1_000_000, description="most calls at once; 0: no bound")
    timeouts: TimeoutsConfig = Field(default=TimeoutsConfig(), description="own times")


def _deployment(value: object) -> object:
    if not isinstance(value, str):
        return value
    provider, slash, model = value.partition("/")
    if not slash:
        raise ValueError(f"{value!r} is not of the form provider/model")
    return {"provider": provider, "model": model}


def _seconds(value: object) -> object:
    """A span such as `90`, `30s`, `10m` or `2h`, in seconds."""
    if not isinstance(value, str):
        return value
    found = _SPAN.fullmatch(value.strip())
    if found is None:
        raise ValueError(f"{value!r} is not a span such as 30s, 10m or 2h")
    return float(found[1]) * _UNITS[found[2]]


def _limit(value: object) -> object:
    """A number, or how many times the old model's figure, such as `1.5x`."""
    if isinstance(value, str) and not _TIMES.fullmatch(value):
        raise ValueError(f"{value!r} is neither a number nor a factor such as 1.5x")
    return value


Span = Annotated[Seconds, BeforeValidator(_seconds, json_schema_input_type=float | str)]
Limit = Annotated[Annotated[float, Field(ge=0, allow_inf_nan=False)] | str, BeforeValidator(_limit)]
Percent = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]


class GuardsConfig(Section):
    """What the new model's calls must not exceed: a number, or a factor of the old model's figure such as `1.5x`."""

    error_rate: Limit | None = Field(default=0.05, description="share of calls that failed or broke")
    first_token_p90: Limit | None = Field(default=None, description="seconds to the first content, P90")
    cost_per_call: Limit | None = Field(default=None, description="USD")
    refusal_rate: Limit | None = Field(default=None, description="share of calls that a filter or the model refused")


class RolloutConfig(Section):
    """Leads an alias to another model in steps, and back by itself when a guard is broken."""

    to: Name = Field(description="the new model")
    steps: tuple[Percent, ...] = Field(
        default=(1.0, 5.0, 25.0, 100.0), min_length=1, max_length=32, description="per cent of the calls, growing"
    )
    every: Span = Field(default=600.0, description="how long each step is watched: seconds, or such as `10m`")
    min_calls: int = Field(
        default=50, ge=1, le=100_000, description="calls of the new model that a step needs to be judged good"
    )
    guards: GuardsConfig = Field(default=GuardsConfig(), description="what is watched")
    note: str = Field(default="", max_length=256, description="any words; others begin the rollout anew")

    @model_validator(mode="after")
    def _growing(self) -> Self:
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError("steps must grow")
        return self


class AliasConfig(Section):
    """A name that stands for others; also written as one name, or as a mapping of names to weights."""

    targets: dict[Name, Weight] = Field(min_length=1, description="models or aliases, each with its weight")
    sticky: Literal["call", "key", "project", "user"] = Field(
        default="call",
        description="whose calls go to the same target: each call for itself, or all of a key, a project, an end user",
    )
    rollout: RolloutConfig | None = Field(default=None, description="leads it to another model in steps")

    @model_validator(mode="after")
    def _from_something(self) -> Self:
        if self.rollout is not None and set(self.targets) == {self.rollout.to}:
            raise ValueError("rollout.to is the only target already")
        return self


def _alias(value: object) -> object:
    if isinstance(value, str):
        return {"targets": {value: 1}}
    if not isinstance(value, dict):
        return value
    targets = value.get("targets")
    if isinstance(targets, str):
        return {**value, "targets": {targets: 1}}
    return value if isinstance(targets, dict) else {"targets": value}


Deployed = Annotated[DeploymentConfig, BeforeValidator(_deployment, json_schema_input_type=str | DeploymentConfig)]
Targets = Annotated[AliasConfig, BeforeValidator(_alias, json_schema_input_type=str | dict[str, Weight] | AliasConfig)]


class ModelConfig(Section):
    """A public model and the deployments that serve it."""

    operations: tuple[OperationWord, ...] | None = Field(
        default=None, min_length=1, description="what it is for; unset: as its provider says, or chat and completion"
    )
    # a decision record writes positions in two bytes of seven bits
    deployments: tuple[Deployed, ...] = Field(min_length=1, max_length=10_000, description="who serves it")


class JournalConfig(Section):
    """How long decisions are kept for `polyroute explain` and `polyroute simulate`."""

    days: float = Field(default=14.0, gt=0, le=3650, description="older ones are deleted")
    max_megabytes: int = Field(default=1024, ge=1, description="the oldest are deleted beyond this")


class RouterConfig(Section):
    """How the router works; intervals and journal are read once at the start, the rest with every reload."""

    health: bool = Field(default=True, description="leave out deployments that fail, and try them again by and by")
    max_attempts: int = Field(default=3, ge=1, le=10, description="most attempts of a call in all")
    timeouts: DefaultTimeouts = Field(default=DefaultTimeouts(), description="times for deployments without their own")
    reload_interval: Seconds = Field(default=1.0, description="seconds between two looks at the file")
    providers_wait: float = Field(
        default=5.0, ge=0, le=300, description="seconds to wait for the providers before being ready without them"
    )
    rollout_interval: Seconds = Field(default=5.0, description="seconds between two evaluations of a rollout")
    journal: JournalConfig = Field(default=JournalConfig(), description="what is kept of decisions")


class CatalogConfig(Section):
    """The catalog as an operator writes it."""

    models: dict[Name, ModelConfig] = Field(default={}, description="public names and who serves them")
    aliases: dict[Name, Targets] = Field(
        default={}, description="names that stand for a model or alias, or for several with weights"
    )
    policies: dict[Name, PolicyConfig] = Field(default={}, description="rule sets for choosing among deployments")
    routing: RoutingConfig = Field(default=RoutingConfig(), description="which policy rules which call")
    prices: PricesConfig = Field(default=PricesConfig(), description="what models charge, where the lists are wrong")
    router: RouterConfig = Field(default=RouterConfig(), description="how the router works")
