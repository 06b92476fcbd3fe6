"""Who is tried first: stages, groups of equals in them, and the shares of a group's members.

A *stage* holds the deployments that an operator or caller put on one level: the same place in `order`, the same
priority, the same fallback model. Every stage gets an attempt as far as there are attempts. Inside of a stage come
first those without a recent outage, then those within the caller's soft bounds, then by region, then by the sort keys,
each with its tolerance. Who is still equal after that forms a *group*, whose members are drawn by their shares: by the
score that `policies` describes where nothing is sorted, by the catalog's weights where something is.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.mesh.pricing import in_force
from polyroute.router.catalog import Deployment
from polyroute.router.estimate import expected, price_of
from polyroute.router.figures import Figures
from polyroute.router.filters import Entrant, Kind, called, within

OUTAGE_BELOW: Final = 0.5  # success rate of the last minute
LATENCY_PERCENTILE: Final = 90
THROUGHPUT_PERCENTILE: Final = 50
_LIVE: Final = frozenset({pb.SORT_BY_LATENCY, pb.SORT_BY_THROUGHPUT, pb.SORT_BY_SUCCESS_RATE})
_TOLERANCES: Final = {pb.SORT_BY_LATENCY: 0.1, pb.SORT_BY_THROUGHPUT: 0.1, pb.SORT_BY_SUCCESS_RATE: 0.01}
_HIGHEST_FIRST: Final = frozenset(
    {pb.SORT_BY_THROUGHPUT, pb.SORT_BY_SUCCESS_RATE, pb.SORT_BY_INPUT_LENGTH, pb.SORT_BY_OUTPUT_LENGTH}
)
_OTHER_PRICE: Final = {
    pb.SORT_BY_INPUT_PRICE: pb.SORT_BY_OUTPUT_PRICE,
    pb.SORT_BY_OUTPUT_PRICE: pb.SORT_BY_INPUT_PRICE,
}
_SCALES: Final = {pb.SORT_BY_PRICE: 1_000_000}  # terms are in nano-USD
_LEAST_SHARE: Final = 1e-9  # nobody's share is nothing: it would never be measured again
_LEAST_LATENCY: Final = 1.0  # ms
_FREE: Final = 0.01  # of the dearest price: what keeps the inverse of a price of nothing finite

Term = tuple[str, float]


class Wishes(NamedTuple):
    """What ranks: the policy's, or the caller's instead.

    Args:
        order: Names to be tried first.
        sort: Keys.
        slow: Least throughputs.
        late: Greatest latencies.
        together: The deployments of all models are compared with each other.
    """

    order: Sequence[str]
    sort: Sequence[pb.SortKey]
    slow: Sequence[pb.Threshold]
    late: Sequence[pb.Threshold]
    together: bool


class Group(NamedTuple):
    """Equals: indices of runners, and the weight of each."""

    members: tuple[int, ...]
    weights: tuple[float, ...]


class Ranking(NamedTuple):
    """The order of the runners.

    Args:
        stages: Each a sequence of groups; whatever is earlier is tried first.
        terms: Why, for each runner.
        seats: Whom calls that stay together may stay at.
        unknown: Who is worth a call to learn its figures.
    """

    stages: list[list[Group]]
    terms: list[list[Term]]
    seats: Group
    unknown: tuple[int, ...]


def wishes_of(policy: pb.Policy, caller: Iterable[pb.Preferences]) -> Wishes:
    """The caller's order and sort instead of the policy's, unless that is final; the soft bounds of both."""
    own = policy.preferences
    order, sort = own.order, own.sort
    slow, late = list(own.preferred_min_throughput), list(own.preferred_max_latency)
    together = False
    for preferences in caller:
        slow += preferences.preferred_min_throughput
        late += preferences.preferred_max_latency
        together = together or preferences.partition == pb.PARTITION_NONE
        if not policy.final:
            order = preferences.order or order
            sort = preferences.sort or sort
    return Wishes(order, _decided(sort), slow, late, together)


def _decided(sort: Sequence[pb.SortKey]) -> Sequence[pb.SortKey]:
    """Sort keys with the one that decides among equals of a price when nobody named it: the other price, the lower."""
    named = {key.by for key in sort}
    other = next((_OTHER_PRICE[key.by] for key in sort if key.by in _OTHER_PRICE), None)
    return sort if other is None or other in named else [*sort, pb.SortKey(by=other)]


def rank(runners: Sequence[Entrant], models: Sequence[str], kind: Kind, policy: pb.Policy, wishes: Wishes) -> Ranking:
    """The order of those that may serve.

    Args:
        runners: In catalog order.
        models: The public models they serve, the first to be tried first.
        kind: Of the call.
        policy: What rules.
        wishes: What ranks under it.
    """
    return _Ranker(runners, models, kind, policy, wishes).ranking()


class _Ranker:
    """One ranking, with what it needs at hand."""

    def __init__(
        self, runners: Sequence[Entrant], models: Sequence[str], kind: Kind, policy: pb.Policy, wishes: Wishes
    ) -> None:
        self._runners = runners
        self._models = {name: place for place, name in enumerate(models)}
        self._tokens = expected(kind)
        self._policy = policy
        self._wishes = wishes
        self._terms: list[list[Term]] = [[] for _ in runners]
        self._nearest = _nearest(runners) if policy.nearest_region else {}
        self._prices = [price_of(runner.deployment, kind) for runner in runners]

    def ranking(self) -> Ranking:
        if not self._runners:
            return Ranking([], [], Group((), ()), ())
        levels = [self._groups(members) for members in self._by(self._stage_of, range(len(self._runners)))]
        shares = self._shares()
        stages = [[self._group(members, shares) for members in level] for level in levels]
        return Ranking(stages, self._terms, self._seats(stages[0], shares), self._unknown(stages[0]))

    def _group(self, members: Iterable[int], shares: Sequence[float]) -> Group:
        """Equals in the order of their names: moving lines of the catalog does not move traffic."""
        order = sorted(members, key=lambda member: self._runners[member].deployment.name)
        return Group(tuple(order), tuple(shares[member] for member in order))

    def _by(self, key: Callable[[int], object], members: Iterable[int]) -> list[list[int]]:
        """The members with the same key together, the lowest key first."""
        found: dict[object, list[int]] = {}
        for member in members:
            found.setdefault(key(member), []).append(member)
        return [found[one] for one in sorted(found)]  # type: ignore[type-var] # keys are of one kind

    def _stage_of(self, member: int) -> tuple[int, int, int]:
        deployment, terms = self._runners[member].deployment, self._terms[member]
        model = 0 if self._wishes.together else self._models.get(deployment.model, 0)
        order = _place(deployment, [[name] for name in self._wishes.order])
        if len(self._models) > 1 and not self._wishes.together:
            terms.append(("model", model))
        if self._wishes.order:
            terms.append(("order", order))
        if self._policy.tiers:
            priority = _place(deployment, [tier.names for tier in self._policy.tiers])
        else:
            priority = deployment.priority
        terms.append(("priority", priority))
        return model, order, priority

    def _groups(self, members: Sequence[int]) -> list[list[int]]:
        groups: list[list[int]] = []
        for level in self._by(self._level_of, members):
            groups += self._sorted(level, list(self._wishes.sort))
        return groups

    def _level_of(self, member: int) -> tuple[bool, int, float]:
        """What comes before any sort: no outage, soft bounds kept, region."""
        figures, terms, missed, region = self._runners[member].figures, self._terms[member], 0, 0.0
        if figures.recent is not None:
            terms.append(("recent_success_rate", figures.recent))
        if self._wishes.slow or self._wishes.late:
            missed = _missed(figures, self._wishes)
            terms.append(("missed_preferences", missed))
        if self._policy.nearest_region or self._policy.region_order:
            region = self._region_of(self._runners[member].deployment)
            terms.append(("region", region))
        return _outage(figures), missed, region

    def _region_of(self, deployment: Deployment) -> float:
        if self._policy.nearest_region:
            return self._nearest[deployment.region]
        order = self._policy.region_order
        return next((i for i, name in enumerate(order) if within(deployment.region, name)), len(order))

    def _sorted(self, members: list[int], keys: list[pb.SortKey]) -> list[list[int]]:
        """The members in bands of equals by the first key, each sorted by the other keys; unknown values last."""
        if not keys:
            return [members]
        key, rest = keys[0], keys[1:]
        name, scale = _name(key), _SCALES.get(key.by, 1)
        values = {member: self._value(member, key) for member in members}
        known = {member: value for member, value in values.items() if value is not None}
        bands = _bands(known, _descending(key), _tolerance(key, last=not rest))
        if len(known) < len(members):
            bands.append([member for member in members if values[member] is None])
        for place, band in enumerate(bands):
            for member in band:
                value = known.get(member)
                if value is not None:
                    self._terms[member].append((name, value / scale))
                self._terms[member].append((f"{name}_band", place))
        if not rest:
            return bands
        return [group for band in bands for group in (self._sorted(band, rest) if len(band) > 1 else [band])]

    def _value(self, member: int, key: pb.SortKey) -> float | None:
        if key.by == pb.SORT_BY_PRICE:
            return self._prices[member]
        return _VALUES[key.by](self._runners[member], key.percentile)

    def _shares(self) -> list[float]:
        """The weight of each runner among its equals."""
        if self._wishes.sort:
            return [float(runner.deployment.weight) for runner in self._runners]
        exponents = self._policy.exponents
        factors = zip(
            (runner.deployment.weight for runner in self._runners),
            self._price_factors(),
            self._reliabilities(),
            self._speeds(),
            strict=True,
        )
        shares = []
        for terms, (weight, price, reliability, speed) in zip(self._terms, factors, strict=True):
            share = weight * price**exponents.price * reliability**exponents.reliability * speed**exponents.speed
            shares.append(max(share, _LEAST_SHARE * weight))
            terms += [
                ("weight", weight),
                ("price_factor", price),
                ("reliability_factor", reliability),
                ("speed_factor", speed),
                ("share", shares[-1]),
            ]
        return shares

    def _price_factors(self) -> list[float]:
        known = [price for price in self._prices if price is not None]
        dearest = max(known, default=0)
        if not dearest:
            return [1.0] * len(self._prices)
        least = dearest * _FREE
        return [least / (least + (dearest if price is None else price)) for price in self._prices]

    def _reliabilities(self) -> list[float]:
        rates = [runner.figures.success for runner in self._runners]
        usual = _median(rates, 1.0)
        return [usual if rate is None else rate for rate in rates]

    def _speeds(self) -> list[float]:
        spreads = [runner.figures.latency for runner in self._runners]
        times = [None if spread is None else max(spread.p50, _LEAST_LATENCY) for spread in spreads]
        usual = _median(times, _LEAST_LATENCY)
        known = [usual if value is None else value for value in times]
        quickest = min(known)
        return [quickest / value for value in known]

    def _unknown(self, first: Sequence[Group]) -> tuple[int, ...]:
        """Those of the first stage whose figures a sort needs and nobody knows, beside others that are known."""
        live = [key for key in self._wishes.sort if key.by in _LIVE]
        members = [member for group in first for member in group.members if not _outage(self._runners[member].figures)]
        unknown = tuple(member for member in members if any(self._value(member, key) is None for key in live))
        return unknown if len(unknown) < len(members) else ()

    def _seats(self, first: Sequence[Group], shares: Sequence[float]) -> Group:
        """The first group; and whoever else of the stage is worth staying at for what its cache saves."""
        if not self._policy.sticky:
            return Group((), ())
        members = list(first[0].members)
        prices = [price for member in members if (price := self._prices[member]) is not None]
        if self._policy.cache_affinity and prices:
            best = min(prices)
            members += [member for group in first[1:] for member in group.members if self._worth_staying(member, best)]
        return self._group(members, shares)

    def _worth_staying(self, member: int, best: int) -> bool:
        deployment, price = self._runners[member].deployment, self._prices[member]
        if price is None or deployment.price is None or _outage(self._runners[member].figures):
            return False
        rates = in_force(deployment.price, *self._tokens)
        saved = max(0, rates.input - rates.cache_read) * self._tokens[0] if rates.HasField("cache_read") else 0
        self._terms[member].append(("cache_saving", saved / _SCALES[pb.SORT_BY_PRICE]))
        return self._policy.cache_affinity * saved >= price - best


def _latency(runner: Entrant, percentile: int) -> float | None:
    spread = runner.figures.latency
    return None if spread is None else spread.at(percentile or LATENCY_PERCENTILE)


def _throughput(runner: Entrant, percentile: int) -> float | None:
    spread = runner.figures.throughput
    return None if spread is None else spread.at(percentile or THROUGHPUT_PERCENTILE)


def _input_price(runner: Entrant, _: int) -> float | None:
    price = runner.deployment.price
    return None if price is None else price.input


def _output_price(runner: Entrant, _: int) -> float | None:
    price = runner.deployment.price
    return None if price is None else price.output


_VALUES: Final[Mapping[int, Callable[[Entrant, int], float | None]]] = {
    pb.SORT_BY_INPUT_PRICE: _input_price,
    pb.SORT_BY_OUTPUT_PRICE: _output_price,
    pb.SORT_BY_LATENCY: _latency,
    pb.SORT_BY_THROUGHPUT: _throughput,
    pb.SORT_BY_SUCCESS_RATE: lambda runner, _: runner.figures.success,
    pb.SORT_BY_INPUT_LENGTH: lambda runner, _: runner.deployment.context_tokens or None,
    pb.SORT_BY_OUTPUT_LENGTH: lambda runner, _: runner.deployment.max_output_tokens or None,
}


def _place(deployment: Deployment, names: Sequence[Iterable[str]]) -> int:
    """The first list that a deployment is named in; the number of lists when it is in none."""
    return next((place for place, some in enumerate(names) if called(deployment, some)), len(names))


def _outage(figures: Figures) -> bool:
    return figures.recent is not None and figures.recent < OUTAGE_BELOW


def _missed(figures: Figures, wishes: Wishes) -> int:
    """How many of the soft bounds are missed; what is unknown misses none."""
    throughput, latency = figures.throughput, figures.latency
    slow = 0 if throughput is None else sum(throughput.at(one.percentile or 50) < one.value for one in wishes.slow)
    late = 0 if latency is None else sum(latency.at(one.percentile or 50) > one.value for one in wishes.late)
    return slow + late


def _nearest(runners: Sequence[Entrant]) -> dict[str, float]:
    """The place of each region, by the median of its deployments' live latencies; those without any come last."""
    latencies: dict[str, list[float]] = {}
    for runner in runners:
        found = latencies.setdefault(runner.deployment.region, [])
        if runner.figures.latency is not None:
            found.append(runner.figures.latency.p50)
    known = sorted((statistics.median(found), region) for region, found in latencies.items() if found)
    places = {region: float(place) for place, (_, region) in enumerate(known)}
    return {region: places.get(region, float(len(known))) for region in latencies}


def _bands(values: dict[int, float], descending: bool, tolerance: float) -> list[list[int]]:
    """The members in bands, the best first: each from its best value to what is within the tolerance of that."""
    bands: list[list[int]] = []
    limit = 0.0
    for member in sorted(values, key=values.__getitem__, reverse=descending):  # stable: catalog order among equals
        value = values[member]
        if not bands or (value < limit if descending else value > limit):
            bands.append([])
            limit = value * (1 - tolerance) if descending else value * (1 + tolerance)
        bands[-1].append(member)
    return bands


def _descending(key: pb.SortKey) -> bool:
    if key.order == pb.SORT_ORDER_UNSPECIFIED:
        return key.by in _HIGHEST_FIRST
    return key.order == pb.SORT_ORDER_DESCENDING


def _tolerance(key: pb.SortKey, *, last: bool) -> float:
    if key.HasField("tolerance"):
        return key.tolerance
    return 0.0 if last else _TOLERANCES.get(key.by, 0.0)


def _name(key: pb.SortKey) -> str:
    word = pb.SortBy.Name(key.by).removeprefix("SORT_BY_").lower()
    if key.by == pb.SORT_BY_LATENCY:
        return f"{word}_p{key.percentile or LATENCY_PERCENTILE}"
    if key.by == pb.SORT_BY_THROUGHPUT:
        return f"{word}_p{key.percentile or THROUGHPUT_PERCENTILE}"
    return word


def _median(values: Iterable[float | None], default: float) -> float:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else default
