"""Policies in the contract's form: out of the configuration, and those that are there without any.

The default policy, with nothing configured, gives each deployment of a tier a share of the calls in proportion to

    weight * (c / (c + price)) ** 2 * success_rate ** 3 * (latency of the quickest / latency) ** 0.5

and puts those that failed more than half of their attempts in the last minute behind the others of their tier. `price`
is what the call is expected to cost there (see `SORT_BY_PRICE` in the contract) and `c` a hundredth of what it costs at
the dearest one: so half the price gets about four times the share, and what is free gets nearly everything and not a
division by zero. An unknown price counts as the dearest known one, so that nobody gains by not saying it; an unknown
success rate or latency as the median of the known ones. With nothing known the weights alone decide. A deployment of a
later tier is tried when those before it have failed, and every tier gets an attempt as far as there are attempts.
"""

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

from google.protobuf.message import Message

from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.router.fields import MAX_INT64
from polyroute.router.policyconfig import ExponentsConfig, MaxPriceConfig, PolicyConfig, SortConfig

DEFAULT: Final = "default"
COST_FIRST: Final = "cost_first"
QUALITY_FIRST: Final = "quality_first"
LATENCY_CRITICAL: Final = "latency_critical"
NEAREST: Final = "nearest"
# What is there without being configured; a policy of the same name in the catalog stands instead.
BUILT_IN: Final[Mapping[str, PolicyConfig]] = {
    DEFAULT: PolicyConfig(),
    COST_FIRST: PolicyConfig(sort=(SortConfig(by="price"),)),
    QUALITY_FIRST: PolicyConfig(),
    LATENCY_CRITICAL: PolicyConfig(sort=(SortConfig(by="latency"), SortConfig(by="throughput"))),
}

_VERSION_BYTES: Final = 6
_MS: Final = 1000.0
_MICROSECONDS: Final = 1e6
_MILLION: Final = 1_000_000
_MINUTE_MILLISECONDS: Final = 60_000
_COLLECTIONS: Final = {"allow": pb.DATA_COLLECTION_UNSPECIFIED, "deny": pb.DATA_COLLECTION_DENY}
_STICKY: Final = {
    "none": pb.STICKY_BY_UNSPECIFIED,
    "key": pb.STICKY_BY_KEY,
    "project": pb.STICKY_BY_PROJECT,
    "user": pb.STICKY_BY_USER,
}
_ORDERS: Final = {
    None: pb.SORT_ORDER_UNSPECIFIED,
    "asc": pb.SORT_ORDER_ASCENDING,
    "desc": pb.SORT_ORDER_DESCENDING,
}


class Policy(NamedTuple):
    """A policy in force.

    Args:
        message: Its content.
        version: A digest of it.
    """

    message: pb.Policy
    version: str

    @property
    def name(self) -> str:
        """Its name in the catalog."""
        return self.message.name


def policy_of(message: pb.Policy) -> Policy:
    """A policy with its version: the same content has the same version everywhere."""
    return Policy(message, digest(message))


def digest(message: Message) -> str:
    """Twelve hex digits that name a message's content."""
    return hashlib.blake2b(message.SerializeToString(deterministic=True), digest_size=_VERSION_BYTES).hexdigest()


@cache
def default_policy() -> Policy:
    """What rules where nothing else does."""
    return compiled(DEFAULT, BUILT_IN[DEFAULT])


def all_policies(configured: Mapping[str, PolicyConfig]) -> dict[str, Policy]:
    """Every policy by name: those of the configuration, and the built-in ones that it does not replace."""
    return {name: compiled(name, config) for name, config in {**BUILT_IN, **configured}.items()}


def compiled(name: str, config: PolicyConfig) -> Policy:
    """A policy out of its configuration."""
    regions = list(config.regions)
    message = pb.Policy(
        name=name,
        preferences=_preferences(config),
        final=config.final,
        tiers=[pb.Tier(names=names) for names in config.tiers],
        region_order=[] if regions == [NEAREST] else regions,
        nearest_region=regions == [NEAREST],
        exponents=_exponents(config.score),
        explore=config.explore,
        sticky=_STICKY[config.sticky],
        cache_affinity=config.cache_affinity,
        max_attempts=config.max_attempts or 0,
        hedge=config.hedge,
        content_policy_fallback=config.content_policy_fallback or "",
    )
    for field, seconds in config.timeouts.model_dump(exclude_none=True).items():
        getattr(message.timeouts, field).FromMicroseconds(round(seconds * _MICROSECONDS))
    return policy_of(message)


def _preferences(config: PolicyConfig) -> pb.Preferences:
    preferences = pb.Preferences(
        only=config.only,
        ignore=config.ignore,
        order=config.order,
        regions=config.region,
        tags=config.tags,
        quantizations=config.quantizations,
        data_collection=_COLLECTIONS[config.data_collection],
        zdr=config.zdr or None,
        input_price=_bounds(pb.Int64Range, config.input_price),
        output_price=_bounds(pb.Int64Range, config.output_price),
        max_price=_max_price(config.max_price),
        throughput=_bounds(pb.DoubleRange, config.throughput),
        latency_milliseconds=_bounds(pb.DoubleRange, config.latency, _MS),
        input_length=_bounds(pb.Int64Range, config.input_length),
        output_length=_bounds(pb.Int64Range, config.output_length),
        sort=[_sort_key(key) for key in config.sort],
        preferred_min_throughput=_thresholds(config.min_throughput),
        preferred_max_latency=_thresholds(config.max_latency, _MS),
    )
    if not config.allow_fallbacks:
        preferences.allow_fallbacks = False
    return preferences


def _sort_key(config: SortConfig) -> pb.SortKey:
    key = pb.SortKey(by=pb.SortBy.Value(f"SORT_BY_{config.by.upper()}"), order=_ORDERS[config.order])
    if config.percentile is not None:
        key.percentile = int(config.percentile[1:])
    if config.tolerance is not None:
        key.tolerance = config.tolerance
    return key


def _bounds(message: Any, config: Any, scale: float | None = None) -> Any:
    """A range as a message; None for none."""
    if config is None:
        return None
    ends = config.model_dump(exclude_none=True)
    return message(**{name: value if scale is None else value * scale for name, value in ends.items()})


def _max_price(config: MaxPriceConfig | None) -> pb.MaxPrice | None:
    """Highest prices as the contract has them, per million of what usage counts.

    A price per minute of sound is rounded up, so that one which is rounded in the catalog is not below its own bound.
    """
    if config is None:
        return None
    bounds = config.model_dump(exclude_none=True)
    if config.image is not None:
        bounds["image"] = min(config.image * _MILLION, MAX_INT64)
    if config.audio is not None:
        bounds["audio"] = min(-(-config.audio * _MILLION // _MINUTE_MILLISECONDS), MAX_INT64)
    return pb.MaxPrice(**bounds)


def _thresholds(value: float | None, scale: float = 1.0) -> Iterable[pb.Threshold]:
    return [] if value is None else [pb.Threshold(percentile=50, value=value * scale)]


def _exponents(config: ExponentsConfig) -> pb.Exponents:
    return pb.Exponents(price=config.price, reliability=config.reliability, speed=config.speed)
