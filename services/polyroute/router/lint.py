"""What is allowed in a catalog and yet probably a mistake: rules that can never fire, names that stand for nothing.

Nothing here keeps a catalog from coming into force. Each warning begins with its path in the YAML.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from polyroute.api.router.v1.router_pb2 import SORT_BY_LATENCY, SORT_BY_THROUGHPUT
from polyroute.router.auto import OTHER, RULES
from polyroute.router.catalog import Alias, Catalog, Model
from polyroute.router.policies import BUILT_IN, Policy
from polyroute.router.policyconfig import AutoRuleConfig, RuleConfig
from polyroute.router.schedules import Schedule, covered
from polyroute.router.spelling import hint

_WEEK: Final = 7 * 24 * 60  # minutes
_LIVE: Final = frozenset({SORT_BY_LATENCY, SORT_BY_THROUGHPUT})  # figures that hardly ever tie
_NAMED: Final = 5  # of a long list
_CONDITIONS: Final = ("models", "aliases", "projects", "keys")


def warnings(catalog: Catalog) -> Iterator[str]:
    """Every warning of a catalog, in the order of the file."""
    for model in catalog.models:
        yield from _priorities(model, catalog)
    for name, policy in catalog.policies.items():
        if name not in BUILT_IN:
            yield from _policy(name, policy, catalog)
    yield from _rules(catalog)
    for schedule in catalog.schedules.values():
        yield from _schedule(schedule)
    yield from _auto(catalog)
    yield from _unused(catalog)


def unpriced(models: Iterable[Model]) -> Iterator[str]:
    """One warning for all deployments whose price nobody knows, if there are any."""
    names = [one.name for model in models for one in model.deployments if one.price is None]
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield (
            f"models: no price is known of {', '.join(names[:_NAMED])}{more}: their calls are recorded without a cost, "
            "and keys with a budget may not make them"
        )


def _priorities(model: Model, catalog: Catalog) -> Iterator[str]:
    tiers = sorted({deployment.priority for deployment in model.deployments})
    beyond = tiers[catalog.max_attempts :]
    if beyond:
        yield (
            f"models.{model.name}: priority {_few(beyond)} can never be tried: "
            f"there are {len(tiers)} priorities and router.max_attempts is {catalog.max_attempts}"
        )


def _policy(name: str, policy: Policy, catalog: Catalog) -> Iterator[str]:
    place, message = f"policies.{name}", policy.message
    deployments = [deployment for model in catalog.models for deployment in model.deployments]
    known = frozenset[str]().union(*(deployment.names for deployment in deployments))
    wanted = message.preferences
    for field, names in (("only", wanted.only), ("ignore", wanted.ignore), ("order", wanted.order)):
        yield from _strangers(f"{place}.{field}", names, known)
    for i, tier in enumerate(message.tiers):
        yield from _strangers(f"{place}.tiers[{i}]", tier.names, known)
    regions = {deployment.region.casefold() for deployment in deployments}
    for field, words in (("region", wanted.regions), ("regions", message.region_order)):
        for word in words:
            if not any(_within(region, word.casefold()) for region in regions):
                yield f"{place}.{field}: no deployment runs in {word!r}"
    attempts = message.max_attempts or catalog.max_attempts
    if len(message.tiers) > attempts:
        yield f"{place}.tiers[{attempts}]: can never be tried: max_attempts is {attempts}"
    yield from _sort(place, policy)
    if message.cache_affinity and not message.sticky:
        yield f"{place}.cache_affinity: does nothing without sticky"


def _sort(place: str, policy: Policy) -> Iterator[str]:
    seen: set[int] = set()
    keys = policy.message.preferences.sort
    for i, key in enumerate(keys):
        if key.by in seen:
            yield f"{place}.sort[{i}]: can never matter: an earlier key is the same"
        seen.add(key.by)
        if key.by in _LIVE and key.HasField("tolerance") and key.tolerance == 0 and i + 1 < len(keys):
            yield f"{place}.sort[{i + 1}]: hardly ever matters: the key before it has no tolerance"


def _strangers(place: str, names: Iterable[str], known: frozenset[str]) -> Iterator[str]:
    for name in names:
        if name.casefold() not in known:
            yield f"{place}: {name!r} is no deployment, provider or provider/region{hint(name, known)}"


def _within(region: str, wanted: str) -> bool:
    return region == wanted or region.startswith(f"{wanted}-")


def _rules(catalog: Catalog) -> Iterator[str]:
    rules = catalog.routing.rules
    for i, rule in enumerate(rules):
        for field in ("models", "aliases"):
            for name in getattr(rule, field):
                kind = Model if field == "models" else Alias
                if not isinstance(catalog.named(name), kind):
                    yield f"routing.rules[{i}].{field}: there is no {kind.__name__.lower()} {name!r}"
        for j, before in enumerate(rules[:i]):
            if _implied(rule, before):
                yield f"routing.rules[{i}]: can never rule: rule {j} matches whatever it matches"
                break


def _implied(rule: RuleConfig, before: RuleConfig) -> bool:
    """Whether whatever meets the conditions of `rule` meets those of `before` too."""
    for field in _CONDITIONS:
        wide, narrow = set(getattr(before, field)), set(getattr(rule, field))
        if wide and not (narrow and narrow <= wide):
            return False
    return before.tags.items() <= rule.tags.items()


def _schedule(schedule: Schedule) -> Iterator[str]:
    place = f"routing.schedules.{schedule.name}"
    taken: set[int] = set()
    for i, window in enumerate(schedule.windows):
        minutes = covered([window])
        if minutes <= taken:
            yield f"{place}.windows[{i}]: can never rule: earlier windows hold all of it"
        taken |= minutes
    if len(taken) == _WEEK:
        yield f"{place}.otherwise: can never rule: the windows hold the whole week"


def _auto(catalog: Catalog) -> Iterator[str]:
    auto = catalog.routing.auto
    rules: Sequence[AutoRuleConfig] = auto.rules or RULES
    names = {OTHER, *(rule.name for rule in rules)}
    for name in auto.classes:
        if name not in names:
            yield f"routing.auto.classes.{name}: no rule gives this class{hint(name, names)}"
    for i, rule in enumerate(auto.rules):
        for j, before in enumerate(auto.rules[:i]):
            if _wider(before, rule):
                yield f"routing.auto.rules[{i}]: can never hold: rule {j} holds whenever it does"
                break
        if rule.min_tokens is not None and rule.max_tokens is not None and rule.min_tokens > rule.max_tokens:
            yield f"routing.auto.rules[{i}]: can never hold: min_tokens is above max_tokens"


def _wider(before: AutoRuleConfig, rule: AutoRuleConfig) -> bool:
    """Whether `before` holds whenever `rule` does."""
    words = all(
        getattr(before, field) in {None, getattr(rule, field)} for field in ("urgency", "code", "tools", "vision")
    )
    least = before.min_tokens is None or (rule.min_tokens is not None and before.min_tokens <= rule.min_tokens)
    most = before.max_tokens is None or (rule.max_tokens is not None and before.max_tokens >= rule.max_tokens)
    return words and least and most


def _unused(catalog: Catalog) -> Iterator[str]:
    routing = catalog.routing
    named = {routing.policy, *(rule.policy for rule in routing.rules)}
    for name, schedule in catalog.schedules.items():
        if name in named:
            named |= set(schedule.policies)
        else:
            yield f"routing.schedules.{name}: nothing names it"
    named |= {one.policy for one in routing.auto.classes.values() if one.policy}
    for name in catalog.policies:
        if name not in named and name not in BUILT_IN:
            yield f"policies.{name}: nothing names it"


def _few(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
