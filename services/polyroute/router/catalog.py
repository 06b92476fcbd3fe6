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
from typing import Final, NamedTuple

from polyroute.api.router.v1.router_pb2 import Attempt, Plan, Price
from polyroute.router.names import closest, pairs

_VERSION_BYTES: Final = 6  # 12 hex digits: short enough for a log line, and versions are few


class Times(NamedTuple):
    """How long each step of an attempt may take, in seconds."""

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
    priority: int = 0
    weight: int = 1
    price: Price | None = None
    operations: frozenset[int] | None = None
    capabilities: frozenset[int] | None = None
    context_tokens: int = 0
    max_output_tokens: int = 0

    @cached_property
    def attempt(self) -> bytes:
        """A serialised plan of one attempt at this deployment: plans are joined from these."""
        attempt = Attempt(
            deployment=self.name,
            provider=self.provider,
            upstream_model=self.upstream_model,
            price=self.price,
            capabilities=sorted(self.capabilities or ()),  # type: ignore[arg-type] # enum values are ints
            region=self.region,
        )
        return Plan(attempts=[attempt]).SerializeToString()


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
    def slots(self) -> dict[str, int]:
        """A number for each deployment's name that does not depend on the order in the catalog."""
        return {name: slot for slot, name in enumerate(sorted(deployment.name for deployment in self.deployments))}


@dataclass(frozen=True, slots=True, eq=False)
class Alias:
    """A name that stands for others, by weight: pairs of name and weight. Every name is in the catalog."""

    name: str
    targets: tuple[tuple[str, int], ...]


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
    """

    models: tuple[Model, ...]
    aliases: tuple[Alias, ...]
    entries: Mapping[str, Entry]
    open_ended: Mapping[str, Times]
    max_attempts: int
    _folded: Mapping[str, Entry] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        folded: dict[str, Entry] = {}
        for name, entry in self.entries.items():
            folded.setdefault(name.casefold(), entry)
        object.__setattr__(self, "_folded", folded)

    @cached_property
    def version(self) -> str:
        """A digest of the content: the same content has the same version everywhere."""
        content = {
            "models": [[model.name, [_canonical(one) for one in model.deployments]] for model in self.models],
            "aliases": [[alias.name, alias.targets] for alias in self.aliases],
            "open_ended": sorted(self.open_ended.items()),
            "max_attempts": self.max_attempts,
        }
        text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=_VERSION_BYTES).hexdigest()

    @cached_property
    def deployments(self) -> int:
        """Number of deployments in all models."""
        return sum(len(model.deployments) for model in self.models)

    def lookup(self, name: str) -> Entry | None:
        """What a name means; None when it means nothing."""
        return self.entries.get(name) or self._folded.get(name.casefold()) or self._passed_on(name)

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
        return passed_on(provider, upstream, times)


def passed_on(provider: str, upstream_model: str, times: Times) -> Model:
    """A model that nobody described, at a provider that is asked for it by name."""
    name = f"{provider}/{upstream_model}"
    return Model(name, (Deployment(name, provider, upstream_model, times),))


def _canonical(deployment: Deployment) -> list[object]:
    price = deployment.price
    return [
        deployment.name,
        deployment.provider,
        deployment.upstream_model,
        deployment.times,
        deployment.region,
        deployment.priority,
        deployment.weight,
        None if price is None else price.SerializeToString(deterministic=True).hex(),
        _sorted(deployment.operations),
        _sorted(deployment.capabilities),
        deployment.context_tokens,
        deployment.max_output_tokens,
    ]


def _sorted(numbers: frozenset[int] | None) -> list[int] | None:
    return None if numbers is None else sorted(numbers)
