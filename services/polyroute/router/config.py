"""The router's part of the configuration file: the sections `models`, `aliases` and `router`.

    models:
      large:
        deployments:
          - {provider: east, model: large-2, priority: 0, weight: 3, price: {input: "2.00", output: "10.00"}}
          - west/large-2                # short for {provider: west, model: large-2}
      vectors: {operations: [embedding], deployments: [own/bge-m3]}
    aliases:
      smart: large
      fast: {large: 90, small: 10}      # by weight
    router: {max_attempts: 3, timeouts: {first_token: 60}}

These models check what one value can tell; what needs the whole catalog (names that must exist, cycles, doubles) is
checked by `catalog.build`. Prices are USD per million units, read exactly: `"0.2"` is 200_000_000 nano-USD, and a price
finer than a nano-dollar is refused. Times are seconds.
"""

import unicodedata
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from polyroute.api.chat.v1.chat_pb2 import Capability, Operation
from polyroute.mesh.config import Section

MAX_NAME_BYTES: Final = 256
NANOS: Final = 1_000_000_000
MAX_INT64: Final = 2**63 - 1
OPERATIONS: Final = {name.removeprefix("OPERATION_").lower(): value for name, value in Operation.items() if value}
CAPABILITIES: Final = {name.removeprefix("CAPABILITY_").lower(): value for name, value in Capability.items() if value}


def checked_name(name: str) -> str:
    """The name, when it may stand in a catalog: NFC, 1 to 256 bytes of UTF-8, nothing invisible in it."""
    if not name or name != name.strip():
        raise ValueError("a name must not be empty, nor begin or end with white space")
    if any(unicodedata.category(char).startswith("C") for char in name):
        raise ValueError(f"the name {name!r} holds a control or format character")
    if not unicodedata.is_normalized("NFC", name):
        raise ValueError(f"the name {name!r} is not in Unicode normal form NFC")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"the name {name[:32]!r}... is longer than {MAX_NAME_BYTES} bytes")
    return name


def nanos(value: object) -> int:
    """A price in USD per million as exact nano-USD per million.

    Args:
        value: A decimal string or a number; a float counts as its shortest decimal form, so 0.1 is 0.1.

    Raises:
        ValueError: It is no number, negative, too large, or finer than a nano-dollar.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError("a price is a number or a decimal string, in USD per million")  # noqa: TRY004 - pydantic's form
    try:
        amount = Decimal(str(value)) * NANOS
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a decimal number") from None
    if not amount.is_finite() or not 0 <= amount <= MAX_INT64:
        raise ValueError(f"the price {value!r} is out of range")
    if amount != amount.to_integral_value():
        raise ValueError(f"the price {value!r} is finer than a nano-dollar")
    return int(amount)


def _operation(value: str) -> int:
    return _word(value, OPERATIONS, "operation")


def _capability(value: str) -> int:
    return _word(value, CAPABILITIES, "capability")


def _word(value: object, words: dict[str, Any], kind: str) -> int:
    number = words.get(value) if isinstance(value, str) else None
    if number is None:
        raise ValueError(f"unknown {kind} {value!r}; the {kind} words are {', '.join(words)}")
    return int(number)


Name = Annotated[str, AfterValidator(checked_name)]
Nanos = Annotated[int, BeforeValidator(nanos), WithJsonSchema({"type": ["string", "number"]})]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Weight = Annotated[int, Field(ge=1, le=1_000_000)]
Tokens = Annotated[int, Field(ge=1, le=MAX_INT64)]
OperationWord = Annotated[
    int, BeforeValidator(_operation), WithJsonSchema({"type": "string", "enum": sorted(OPERATIONS)})
]
CapabilityWord = Annotated[
    int, BeforeValidator(_capability), WithJsonSchema({"type": "string", "enum": sorted(CAPABILITIES)})
]


class PriceConfig(Section):
    """What a deployment charges, USD per million tokens (`request`: per million calls); read as nano-USD."""

    input: Nanos = Field(description="per million uncached prompt tokens")
    output: Nanos = Field(description="per million tokens of the answer")
    cache_read: Nanos | None = Field(default=None, description="per million tokens read from cache; unset: as input")
    cache_write: Nanos | None = Field(default=None, description="per million tokens written to cache; unset: as input")
    reasoning: Nanos | None = Field(default=None, description="per million reasoning tokens; unset: as output")
    request: Nanos | None = Field(default=None, description="per million calls; unset: nothing")
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
    timeouts: TimeoutsConfig = Field(default=TimeoutsConfig(), description="own times")


def _deployment(value: object) -> object:
    if not isinstance(value, str):
        return value
    provider, slash, model = value.partition("/")
    if not slash:
        raise ValueError(f"{value!r} is not of the form provider/model")
    return {"provider": provider, "model": model}


def _targets(value: object) -> object:
    return {value: 1} if isinstance(value, str) else value


Deployed = Annotated[DeploymentConfig, BeforeValidator(_deployment, json_schema_input_type=str | DeploymentConfig)]
Targets = Annotated[
    dict[Name, Weight], Field(min_length=1), BeforeValidator(_targets, json_schema_input_type=str | dict[str, Weight])
]


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
    router: RouterConfig = Field(default=RouterConfig(), description="how the router works")
