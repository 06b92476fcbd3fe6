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
    router: {max_attempts: 3, timeouts: {first_token: 60}}

Policies and what chooses among them are in `policyconfig`. These models check what one value can tell; what needs the
whole catalog (names that must exist, cycles, doubles) is checked by `build`. Prices are USD per million units, read
exactly: `"0.2"` is 200_000_000 nano-USD, and a price finer than a nano-dollar is refused. Times are seconds.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from polyroute.mesh.config import Section
from polyroute.router.fields import CapabilityWord, Nanos, OperationWord, Quantization, Seconds, Tokens, Weight, Word
from polyroute.router.fields import Name as Name  # part of this module's face: whoever reads a catalog needs it
from polyroute.router.policyconfig import PolicyConfig, RoutingConfig


class PriceConfig(Section):
    """What a deployment charges, USD per million tokens (`request`: per million calls); read as nano-USD."""

    input: Nanos = Field(description="per million uncached prompt tokens")
    output: Nanos = Field(description="per million tokens of the answer")
    cache_read: Nanos | None = Field(default=None, description="per million tokens read from cache; unset: as input")
    cache_write: Nanos | None = Field(default=None, description="per million tokens written to cache; unset: as input")
    reasoning: Nanos | None = Field(default=None, description="per million reasoning tokens; unset: as output")
    request: Nanos | None = Field(default=None, description="per million calls; unset: nothing")
    other: dict[str, Nanos] = Field(
        default_factory=dict,
        description="per million of other units: `images`, `audio_milliseconds`, `web_search_requests`, ...",
    )
    version: str = Field(default="catalog", max_length=128, description="where the price comes from, and as of when")


class TimeoutsConfig(Section):
    """How long each step of an attempt may take, in seconds; what is unset is inherited from `router.timeouts`."""

    connect: Seconds | None = Field(default=None, description="TCP and TLS")
    first_token: Seconds | None = Field(default=None, description="from sending to the first content")
    inter_token: Seconds | None = Field(default=None, description="between two events of a stream")
    total: Seconds | None = Field(default=None, description="the whole call")


class DefaultTimeouts(Section):
    """The times, in seconds, for deployments that say nothing."""

    connect: Seconds = Field(default=5.0, description="TCP and TLS")
    first_token: Seconds = Field(default=60.0, description="from sending to the first content")
    inter_token: Seconds = Field(default=30.0, description="between two events of a stream")
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


class AliasConfig(Section):
    """A name that stands for others; also written as one name, or as a mapping of names to weights."""

    targets: dict[Name, Weight] = Field(min_length=1, description="models or aliases, each with its weight")
    sticky: Literal["call", "key", "project", "user"] = Field(
        default="call",
        description="whose calls go to the same target: each call for itself, or all of a key, a project, an end user",
    )


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


class RouterConfig(Section):
    """How the router works; the two intervals are read once at the start, the rest with every reload."""

    max_attempts: int = Field(default=3, ge=1, le=10, description="most attempts of a call in all")
    timeouts: DefaultTimeouts = Field(default=DefaultTimeouts(), description="times for deployments without their own")
    reload_interval: Seconds = Field(default=1.0, description="seconds between two looks at the file")
    providers_wait: float = Field(
        default=5.0, ge=0, le=300, description="seconds to wait for the providers before being ready without them"
    )


class CatalogConfig(Section):
    """The catalog as an operator writes it."""

    models: dict[Name, ModelConfig] = Field(default={}, description="public names and who serves them")
    aliases: dict[Name, Targets] = Field(
        default={}, description="names that stand for a model or alias, or for several with weights"
    )
    policies: dict[Name, PolicyConfig] = Field(default={}, description="rule sets for choosing among deployments")
    routing: RoutingConfig = Field(default=RoutingConfig(), description="which policy rules which call")
    router: RouterConfig = Field(default=RouterConfig(), description="how the router works")
