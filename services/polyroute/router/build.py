"""Builds a catalog from the configuration and from what the providers say of themselves, and refuses one that lies.

All faults are found in one pass and told together, each with its path in the YAML and, for a misspelt name, the name
that was probably meant.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from polyroute.api.chat.v1.chat_pb2 import (
    OPERATION_CHAT,
    OPERATION_COMPLETION,
    OPERATION_EMBEDDING,
    OPERATION_MODERATION,
    OPERATION_RERANK,
)
from polyroute.api.providers.v1.providers_pb2 import KnownModel, Provider
from polyroute.api.router.v1.router_pb2 import Billing, Price
from polyroute.router.billing import billing_of
from polyroute.router.catalog import Alias, Catalog, CatalogError, Deployment, Entry, Model, Times, passed_on
from polyroute.router.config import CatalogConfig, DeploymentConfig, ModelConfig, PriceConfig, TimeoutsConfig
from polyroute.router.fields import NANOS
from polyroute.router.lint import unpriced, warnings
from polyroute.router.policies import all_policies
from polyroute.router.prices.book import CATALOG, PROVIDER, PriceBook, PricesAt
from polyroute.router.prices.config import FIGURES, USD
from polyroute.router.prices.quote import Quote, price_of
from polyroute.router.schedules import schedule_of
from polyroute.router.sources import digest_of
from polyroute.router.spelling import hint

_TALKING = frozenset({int(OPERATION_CHAT), int(OPERATION_COMPLETION)})  # what a model does when nobody says
_SILENT = frozenset({int(OPERATION_EMBEDDING), int(OPERATION_RERANK), int(OPERATION_MODERATION)})  # gives no tokens


def build(config: CatalogConfig, providers: Sequence[Provider] | None, now: float | None = None) -> Catalog:
    """The catalog of a configuration.

    Args:
        config: What the operator wrote.
        providers: What the providers role offers; None while that is unknown. Then the providers that the configuration
            names are believed in, and an alias is without the targets that only a provider could make known.
        now: Of which moment the prices are, seconds since 1970 UTC; None for this one.

    Raises:
        CatalogError: With every fault that was found.
    """
    return _Builder(config, providers, time.time() if now is None else now).build()


class _Builder:
    """One build: what is known so far and what is wrong with it."""

    def __init__(self, config: CatalogConfig, providers: Sequence[Provider] | None, now: float) -> None:
        self._config = config
        self._providers = None if providers is None else {provider.name: provider for provider in providers}
        self._known = _known_models(providers or ())
        self._times = Times(*(seconds or 0.0 for seconds in _values(config.router.timeouts)))
        book = PriceBook(config.prices)
        books = {provider.name: provider.price_book for provider in providers or ()}
        self._prices = PricesAt(book, books, now)
        self._problems = book.faults()

    def build(self) -> Catalog:
        """The catalog, or every reason why there is none."""
        configured = self._configured()
        found = self._found({model.name for model in configured} | set(self._config.aliases))
        entries = self._entries(configured, found)
        aliases = self._aliases(entries)
        routing = self._routing(entries)
        if self._problems:
            raise CatalogError(self._problems)
        catalog = Catalog(
            models=(*configured, *found),
            aliases=aliases,
            entries=entries,
            open_ended={name: self._times for name, provider in self._offered.items() if provider.open_ended},
            max_attempts=self._config.router.max_attempts,
            policies=routing.policies,
            schedules=routing.schedules,
            routing=self._config.routing,
            prices=self._prices,
            billing={name: provider.billing for name, provider in self._offered.items()},
        )
        # nobody's price is known while the providers have not been heard
        doubts = (*warnings(catalog), *(unpriced(configured) if self._providers is not None else ()))
        return replace(catalog, warnings=doubts)

    @property
    def _offered(self) -> Mapping[str, Provider]:
        return self._providers or {}

    def _configured(self) -> list[Model]:
        names = _Names(self._config.models, self._problems)
        return [
            Model(name, tuple(self._deployment(name, model, i, names) for i in range(len(model.deployments))))
            for name, model in self._config.models.items()
        ]

    def _deployment(self, model_name: str, model: ModelConfig, index: int, names: "_Names") -> Deployment:
        config = model.deployments[index]
        self._check_provider(config.provider, f"models.{model_name}.deployments[{index}].provider")
        known = self._known.get((config.provider, config.model)) or KnownModel()
        capabilities = known.capabilities or None if config.capabilities is None else config.capabilities
        operations = frozenset(model.operations or known.operations or _TALKING)
        quote, tariff = self._quote(config.provider, known, config.model, operations, config.price)
        return Deployment(
            name=names.of(config),
            provider=config.provider,
            upstream_model=config.model,
            times=self._times_of(config.timeouts),
            region=config.region,
            model=model_name,
            priority=config.priority,
            weight=config.weight,
            price=quote.price,
            quote=quote,
            tariff=tariff,
            operations=operations,
            capabilities=None if capabilities is None else frozenset(capabilities),
            context_tokens=config.context or known.context_tokens,
            max_output_tokens=config.max_output or known.max_output_tokens,
            quantization=config.quantization or "",
            trains=config.data.trains,
            retains=config.data.retains,
            zdr=config.data.zdr,
            tags=frozenset(config.tags),
            max_concurrency=config.max_concurrency,
            billing=self._billing_of(config.provider, config.model),
        )

    def _billing_of(self, provider: str, upstream_model: str) -> Billing | None:
        offered = self._offered.get(provider)
        return billing_of(None if offered is None else offered.billing, upstream_model)

    def _quote(
        self,
        provider: str,
        known: KnownModel,
        model: str,
        operations: frozenset[int],
        price: PriceConfig | None = None,
    ) -> tuple[Quote, str]:
        """What a deployment charges, and a digest of what the lists say of it; `prices.book` has their order."""
        if price is not None:
            return Quote(_price(price), origin=CATALOG, currency=USD), ""
        quote, tariff = self._prices.listed(provider, model, answers=not operations <= _SILENT)
        if not quote.origin and known.HasField("price"):
            return quote._replace(price=known.price, origin=PROVIDER, currency=USD), tariff
        return quote, tariff

    def _check_provider(self, name: str, path: str) -> None:
        if self._providers is not None and name not in self._providers:
            self._problems.append(f"{path}: unknown provider {name!r}{hint(name, self._providers)}")

    def _times_of(self, own: TimeoutsConfig) -> Times:
        return Times(*(mine or default for mine, default in zip(_values(own), self._times, strict=True)))

    def _found(self, taken: set[str]) -> list[Model]:
        """Models of found providers that the configuration does not name; one model when several serve the same."""
        found: dict[str, list[Deployment]] = {}
        for provider in self._offered.values():
            if not provider.discovered:
                continue
            for known in provider.models:
                if known.id not in taken:
                    found.setdefault(known.id, []).append(self._known_deployment(provider.name, known, known.id))
        return [Model(name, tuple(deployments)) for name, deployments in found.items()]

    def _known_deployment(self, provider: str, known: KnownModel, model: str) -> Deployment:
        operations = frozenset[int](known.operations or _TALKING)
        quote, tariff = self._quote(provider, known, known.id, operations)
        return Deployment(
            name=f"{provider}/{known.id}",
            provider=provider,
            upstream_model=known.id,
            times=self._times,
            model=model,
            price=quote.price,
            quote=quote,
            tariff=tariff,
            operations=operations,
            capabilities=frozenset(known.capabilities) or None,
            context_tokens=known.context_tokens,
            max_output_tokens=known.max_output_tokens,
            billing=self._billing_of(provider, known.id),
        )

    def _entries(self, configured: Sequence[Model], found: Sequence[Model]) -> dict[str, Entry]:
        """Every exact name but the aliases; what comes first in the module's order wins."""
        entries: dict[str, Entry] = {model.name: model for model in configured}
        reserved = set(self._config.aliases)
        for name, model in (*self._direct((*configured, *found)), *((model.name, model) for model in found)):
            if name not in reserved:
                entries.setdefault(name, model)
        return entries

    def _direct(self, models: Iterable[Model]) -> Iterable[tuple[str, Model]]:
        """`provider/model` for each deployment, by the vendor's id and by the public name, and for each known model."""
        for model in models:
            groups: dict[str, dict[str, Deployment]] = {}
            for deployment in model.deployments:
                for word in (deployment.upstream_model, model.name):
                    groups.setdefault(f"{deployment.provider}/{word}", {})[deployment.name] = deployment
            for name, group in groups.items():
                yield name, Model(model.name, tuple(group.values()))
        for (provider, word), known in self._known.items():
            name = f"{provider}/{word}"
            yield name, Model(name, (self._known_deployment(provider, known, name),))

    def _aliases(self, entries: dict[str, Entry]) -> tuple[Alias, ...]:
        """The aliases, entered into `entries`; each of their targets is there too."""
        for name in self._config.aliases:
            if name in self._config.models:
                self._problems.append(f"aliases.{name}: is the name of a model as well")
            self._check_cycle(name)
        aliases = [
            Alias(name, self._targets(name, entries), config.sticky) for name, config in self._config.aliases.items()
        ]
        if self._providers is None:
            aliases = _reachable(aliases, entries)
        entries.update((alias.name, alias) for alias in aliases)
        return tuple(aliases)

    def _targets(self, name: str, entries: dict[str, Entry]) -> tuple[tuple[str, int], ...]:
        targets, rollout = self._config.aliases[name].targets, self._config.aliases[name].rollout
        for target in (*targets, *([rollout.to] if rollout else ())):
            if target in entries or target in self._config.aliases or self._pass_on(target, entries):
                continue
            if self._providers is not None:
                known = [*entries, *self._config.aliases]
                self._problems.append(f"aliases.{name}: unknown model {target!r}{hint(target, known)}")
        return tuple(targets.items())

    def _pass_on(self, target: str, entries: dict[str, Entry]) -> bool:
        provider, slash, upstream = target.partition("/")
        offered = self._offered.get(provider)
        if not slash or not upstream or offered is None or not offered.open_ended:
            return False
        entries[target] = passed_on(provider, upstream, self._times, self._prices, offered.billing, named=True)
        return True

    def _check_cycle(self, start: str) -> None:
        seen: set[str] = set()
        stack = [start]
        while stack:
            name = stack.pop()
            if name in seen or name not in self._config.aliases:
                continue
            seen.add(name)
            targets = self._config.aliases[name].targets
            if start in targets:
                self._problems.append(f"aliases.{start}: stands for itself, by way of {name!r}")
                return
            stack.extend(targets)

    def _routing(self, entries: Mapping[str, Entry]) -> "_Routing":
        """Policies and schedules, with every name among them checked."""
        routing = _Routing(self._config, self._problems)
        routing.check()
        auto = self._config.routing.auto
        for place, names in (
            ("routing.auto.models", auto.models),
            *((f"routing.auto.classes.{name}.models", one.models) for name, one in auto.classes.items()),
        ):
            unknown = [name for name in names if name not in entries]
            if self._providers is not None:  # else some may be models that a provider is yet to be heard of
                self._problems += [f"{place}: unknown model {name!r}{hint(name, entries)}" for name in unknown]
        return routing


class _Routing:
    """The policies and schedules of a configuration; notes every name that leads nowhere."""

    def __init__(self, config: CatalogConfig, problems: list[str]) -> None:
        self._config = config
        self._problems = problems
        self.policies = all_policies(config.policies)
        self.schedules = {name: schedule_of(name, one) for name, one in config.routing.schedules.items()}

    def check(self) -> None:
        """Looks every name up."""
        routing = self._config.routing
        for name in routing.schedules:
            if name in self.policies:
                self._problems.append(f"routing.schedules.{name}: is the name of a policy as well")
        for name, schedule in self.schedules.items():
            self._check(f"routing.schedules.{name}", schedule.policies, self.policies)
        either = {**self.policies, **self.schedules}
        self._check("routing.policy", [routing.policy], either)
        for i, rule in enumerate(routing.rules):
            self._check(f"routing.rules[{i}].policy", [rule.policy], either)
        for name, one in routing.auto.classes.items():
            self._check(f"routing.auto.classes.{name}.policy", [one.policy] if one.policy else [], self.policies)

    def _check(self, place: str, names: Iterable[str], known: Mapping[str, object]) -> None:
        for name in names:
            if name not in known:
                self._problems.append(f"{place}: unknown policy {name!r}{hint(name, known)}")


class _Names:
    """Gives each deployment its unique name: its own, or `provider/model`, numbered from the second on."""

    def __init__(self, models: Mapping[str, ModelConfig], problems: list[str]) -> None:
        self._taken: Counter[str] = Counter()
        self._next: Counter[str] = Counter()
        for model_name, model in models.items():
            for index, deployment in enumerate(model.deployments):
                if deployment.name is not None:
                    self._taken[deployment.name] += 1
                    if self._taken[deployment.name] == 2:  # told once, not for each
                        path = f"models.{model_name}.deployments[{index}].name"
                        problems.append(f"{path}: the name {deployment.name!r} is taken by another deployment")

    def of(self, config: DeploymentConfig) -> str:
        """The name of the next deployment in catalog order."""
        if config.name is not None:
            return config.name
        base = f"{config.provider}/{config.model}"
        while True:
            self._next[base] += 1
            name = base if self._next[base] == 1 else f"{base}#{self._next[base]}"
            if name not in self._taken:
                return name


def _known_models(providers: Iterable[Provider]) -> dict[tuple[str, str], KnownModel]:
    return {(provider.name, known.id): known for provider in providers for known in provider.models}


def _reachable(aliases: list[Alias], entries: Mapping[str, Entry]) -> list[Alias]:
    """The aliases without targets that are not known yet; an alias that is left with none is left out."""
    while True:
        names = {alias.name for alias in aliases}
        kept = [
            replace(alias, targets=tuple(one for one in alias.targets if one[0] in entries or one[0] in names))
            for alias in aliases
        ]
        kept = [alias for alias in kept if alias.targets]
        if len(kept) == len(aliases):
            return kept
        aliases = kept


def _values(times: object) -> tuple[float | None, ...]:
    return tuple(getattr(times, name) for name in Times._fields)


def _price(config: PriceConfig) -> Price:
    """The price as a message; what is None stays unset. Without a version of its own it is named by its figures."""
    said = config.model_dump(exclude={"version"}, exclude_none=True)
    own = "version" in config.model_fields_set
    figures: dict[str, Fraction] = {name: Fraction(said[name], NANOS) for name in FIGURES if name in said}
    other = {name: Fraction(value, NANOS) for name, value in config.other.items()}
    return price_of(figures, other, Fraction(1), config.version if own else f"{CATALOG} {digest_of(said)}")
