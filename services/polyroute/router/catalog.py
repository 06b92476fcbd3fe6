"""The catalog: models, aliases and deployments as one immutable, validated, versioned snapshot.

What a name means, in this order: a model or alias of the configuration; `provider/model`, which addresses one provider
directly; a model that a provider was found to serve; any of these in another case; `provider/anything` for a provider
that passes unknown names on. So an operator's own names always win, and nothing found later can change what they mean.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Final, NamedTuple

from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.router.billing import billing_of
from polyroute.router.fields import as_written
from polyroute.router.policies import Policy, all_policies
from polyroute.router.policyconfig import RoutingConfig
from polyroute.router.prices.book import PricesAt
from polyroute.router.prices.quote import NOTHING, Quote
from polyroute.router.schedules import Schedule
from polyroute.router.spelling import closest, pairs

_VERSION_BYTES: Final = 6  # 12 hex digits: short enough for a log line, and versions are few


class Times(NamedTuple):
    """How long each step of an attempt may take, in seconds; 0 where nobody said and the kind of work decides."""

    connect: float
    first_token: float
    inter_token: float
    total: float


class CatalogError(ValueError):
    """A catalog that cannot come into force; `problems` has one text per fault, each beginning with its YAML path."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, eq=False)
class Deployment:
    """One provider serving one model. `None` and 0 mean that nobody said."""

    name: str
    provider: str
    upstream_model: str
    times: Times
    region: str = ""
    model: str = ""
    priority: int = 0
    weight: int = 1
    price: pb.Price | None = None
    operations: frozenset[int] | None = None
    capabilities: frozenset[int] | None = None
    context_tokens: int = 0
    max_output_tokens: int = 0
    quantization: str = ""
    trains: bool | None = None
    retains: bool | None = None
    zdr: bool | None = None
    tags: frozenset[str] = frozenset()
    max_concurrency: int = 0
    billing: pb.Billing | None = None
    quote: Quote = NOTHING  # where `price` was found
    passed_on: bool = False  # nobody but a caller names it
    tariff: str = ""  # a digest of all that the price lists say of it, at any time

    @cached_property
    def attempt(self) -> bytes:
        """A serialised plan of one attempt at this deployment: plans are joined from these."""
        attempt = pb.Attempt(
            deployment=self.name,
            provider=self.provider,
            upstream_model=self.upstream_model,
            price=self.price,
            capabilities=sorted(self.capabilities or ()),  # type: ignore[arg-type] # enum values are ints
            region=self.region,
            model=self.model,
            max_concurrency=self.max_concurrency,
            context_tokens=self.context_tokens,
            billing=self.billing,
            passed_on=self.passed_on,
        )
        return pb.Plan(attempts=[attempt]).SerializeToString()

    @cached_property
    def names(self) -> frozenset[str]:
        """What preferences may call it, case folded: by its own name, its provider's, or `provider/region`."""
        names = {self.name, self.provider, f"{self.provider}/{self.region}"}
        return frozenset(name.casefold() for name in names)

    @cached_property
    def message(self) -> pb.Deployment:
        """All of it, for the record of a decision."""
        timeouts = pb.Timeouts()
        for name, seconds in zip(Times._fields, self.times, strict=True):
            if seconds:
                getattr(timeouts, name).FromMicroseconds(round(seconds * 1e6))
        return pb.Deployment(
            name=self.name,
            provider=self.provider,
            upstream_model=self.upstream_model,
            model=self.model,
            region=self.region,
            priority=self.priority,
            weight=self.weight,
            price=self.price,
            operations=sorted(self.operations or ()),  # type: ignore[arg-type]
            capabilities=sorted(self.capabilities or ()),  # type: ignore[arg-type]
            any_capability=self.capabilities is None,
            context_tokens=self.context_tokens,
            max_output_tokens=self.max_output_tokens,
            quantization=self.quantization,
            data_policy=pb.DataPolicy(trains=self.trains, retains=self.retains, zdr=self.zdr),
            tags=sorted(self.tags),
            max_concurrency=self.max_concurrency,
            timeouts=timeouts,
            passed_on=self.passed_on,
        )


def deployment_of(message: pb.Deployment) -> Deployment:
    """A deployment out of the record of a decision: what `Deployment.message` was made of."""
    seconds = [getattr(message.timeouts, name).ToMicroseconds() / 1e6 for name in Times._fields]
    said = message.data_policy
    return Deployment(
        name=message.name,
        provider=message.provider,
        upstream_model=message.upstream_model,
        times=Times(*seconds),
        region=message.region,
        model=message.model,
        priority=message.priority,
        weight=message.weight,
        price=message.price if message.HasField("price") else None,
        operations=frozenset(message.operations) or None,
        capabilities=None if message.any_capability else frozenset(message.capabilities),
        context_tokens=message.context_tokens,
        max_output_tokens=message.max_output_tokens,
        quantization=message.quantization,
        trains=said.trains if said.HasField("trains") else None,
        retains=said.retains if said.HasField("retains") else None,
        zdr=said.zdr if said.HasField("zdr") else None,
        tags=frozenset(message.tags),
        max_concurrency=message.max_concurrency,
        passed_on=message.passed_on,
    )


@dataclass(frozen=True, eq=False)
class Model:
    """A public name and the deployments that serve it, in catalog order."""

    name: str
    deployments: tuple[Deployment, ...]

    @cached_property
    def context_limits(self) -> list[int]:
        """The known context lengths, in tokens, ascending, each once."""
        return sorted({deployment.context_tokens for deployment in self.deployments if deployment.context_tokens})

    @cached_property
    def answer_limits(self) -> list[int]:
        """The known lengths of answers, in tokens, ascending, each once."""
        return sorted({deployment.max_output_tokens for deployment in self.deployments if deployment.max_output_tokens})


@dataclass(frozen=True, slots=True, eq=False)
class Alias:
    """A name that stands for others, by weight: pairs of name and weight. Every name is in the catalog.

    `sticky` says whose calls go to the same target: `call`, `key`, `project` or `user`.
    """

    name: str
    targets: tuple[tuple[str, int], ...]
    sticky: str = "call"


Entry = Model | Alias


@dataclass(frozen=True, eq=False)
class Catalog:
    """Everything a decision reads that does not change from call to call.

    Args:
        models: Configured models, then found ones.
        aliases: In the order of the configuration.
        entries: Every name that means something, exactly as written.
        open_ended: Providers that pass unknown model names on, each with the times of its attempts.
        max_attempts: Most attempts of a call in all.
        policies: By name, the built-in ones included.
        schedules: By name.
        routing: Which policy rules which call.
        prices: What the price lists say at the moment of which the prices are; None where there are none.
        billing: What providers bill beside their prices.
        warnings: What is allowed and yet probably a mistake; no part of the content.
    """

    models: tuple[Model, ...]
    aliases: tuple[Alias, ...]
    entries: Mapping[str, Entry]
    open_ended: Mapping[str, Times]
    max_attempts: int
    policies: Mapping[str, Policy] = field(default_factory=lambda: all_policies({}))
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    routing: RoutingConfig = field(default_factory=RoutingConfig)
    prices: PricesAt | None = None
    billing: Mapping[str, pb.Billing] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    _folded: Mapping[str, Entry] = field(init=False, repr=False)

    @property
    def regions(self) -> list[str]:
        """Where deployments are, each once."""
        return sorted({one.region for model in self.models for one in model.deployments if one.region})

    def __post_init__(self) -> None:
        folded: dict[str, Entry] = {}
        for name, entry in self.entries.items():
            folded.setdefault(name.casefold(), entry)
        object.__setattr__(self, "_folded", folded)

    @cached_property
    def version(self) -> str:
        """A digest of the content: the same content has the same version everywhere, at every hour."""
        content = {
            "models": [[model.name, [_canonical(one) for one in model.deployments]] for model in self.models],
            "aliases": [[alias.name, alias.targets, alias.sticky] for alias in self.aliases],
            "policies": sorted((name, policy.version) for name, policy in self.policies.items()),
            "routing": as_written(self.routing),
            "open_ended": sorted(self.open_ended.items()),
            "max_attempts": self.max_attempts,
        }
        text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=_VERSION_BYTES).hexdigest()

    @property
    def until(self) -> float:
        """When one of the prices may be another; seconds since 1970 UTC, infinite for never."""
        return inf if self.prices is None else self.prices.until

    @cached_property
    def price_versions(self) -> tuple[str, ...]:
        """The versions of all prices, in catalog order."""
        return tuple(one.price.version if one.price else "" for model in self.models for one in model.deployments)

    @cached_property
    def deployments(self) -> int:
        """Number of deployments in all models."""
        return sum(len(model.deployments) for model in self.models)

    def lookup(self, name: str) -> Entry | None:
        """What a name means; None when it means nothing."""
        return self.named(name) or self._passed_on(name)

    def named(self, name: str) -> Entry | None:
        """What a name of the catalog itself means, in any case; None when it is none."""
        return self.entries.get(name) or self._folded.get(name.casefold())

    def similar(self, name: str, count: int = 3) -> list[str]:
        """Names of models and aliases like `name`, best first."""
        return closest(name, self._pairs, count)

    def targets(self, alias: Alias) -> list[Model]:
        """The models that an alias can lead to, each once."""
        found: dict[str, Model] = {}
        for name, _ in alias.targets:
            entry = self.entries[name]
            for model in [entry] if isinstance(entry, Model) else self.targets(entry):
                found.setdefault(model.name, model)
        return list(found.values())

    @cached_property
    def _pairs(self) -> list[tuple[str, frozenset[str]]]:
        names = [model.name for model in self.models] + [alias.name for alias in self.aliases]
        return [(name, pairs(name)) for name in names]

    def _passed_on(self, name: str) -> Model | None:
        provider, slash, upstream = name.partition("/")
        times = self.open_ended.get(provider)
        if not slash or times is None or not upstream.strip() or not upstream.isprintable():
            return None
        return passed_on(provider, upstream, times, self.prices, self.billing.get(provider))


def passed_on(
    provider: str,
    upstream_model: str,
    times: Times,
    prices: PricesAt | None,
    billing: pb.Billing | None = None,
    *,
    named: bool = False,
) -> Model:
    """A model that nobody described, at a provider that is asked for it by name.

    Args:
        provider: Who.
        upstream_model: The vendor's name of it.
        times: How long each step may take.
        prices: What the price lists say; None where there are none.
        billing: What the provider bills beside its prices.
        named: The operator names it.
    """
    name = f"{provider}/{upstream_model}"
    quote, tariff = prices.listed(provider, upstream_model) if prices is not None else (NOTHING, "")
    deployment = Deployment(
        name,
        provider,
        upstream_model,
        times,
        model=name,
        price=quote.price,
        quote=quote,
        passed_on=not named,
        tariff=tariff,
        billing=billing_of(billing, upstream_model),
    )
    return Model(name, (deployment,))


def _canonical(deployment: Deployment) -> str:
    """What does not change by the clock alone: of a price in a list, all of what the list says."""
    message = deployment.message
    if deployment.tariff:
        message = pb.Deployment()
        message.CopyFrom(deployment.message)
        message.ClearField("price")
    return message.SerializeToString(deterministic=True).hex() + deployment.tariff
