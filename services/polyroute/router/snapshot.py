"""What a decision is made from: the catalog in force, what the providers say of themselves, and the live figures.

A `View` is whole and never changes; whatever arrives makes a new one, which is swapped in by reference. A catalog that
cannot be built leaves the last good one in force, and the reason is told by `CatalogStore.status`.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import structlog

from polyroute.api.providers.v1.providers_pb2 import Provider
from polyroute.router.build import build
from polyroute.router.catalog import Catalog, CatalogError
from polyroute.router.config import CatalogConfig
from polyroute.router.figures import NO_STATS, Stats
from polyroute.router.schedules import switched

ROOM: Final = 20_000  # about 40 MB of slates
_log = structlog.get_logger("router")


class Prepared:
    """What decisions prepare once per view; emptied when it is full, for callers may think of many kinds of calls.

    Args:
        room: How much it holds, in deployments that slates were made of; anything else counts as one.
    """

    __slots__ = ("_found", "_left", "_room")

    def __init__(self, room: int = ROOM) -> None:
        self._found: dict[object, object] = {}
        self._room = self._left = room

    def get(self, key: object) -> object | None:
        """What was kept under a key."""
        return self._found.get(key)

    def keep(self, key: object, value: object, size: int = 1) -> None:
        """Keeps something of some size, unless it is larger than everything may be."""
        if size > self._left:
            self.clear()
        if size <= self._left:
            self._left -= size
            self._found[key] = value

    def clear(self) -> None:
        """Lets go of everything."""
        self._found.clear()
        self._left = self._room

    def __len__(self) -> int:
        return len(self._found)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Everything a decision reads.

    Args:
        catalog: The catalog in force.
        stats: The live figures.
        providers: Why each provider cannot serve, empty when it can; None while the providers have not been heard.
        busy: The schedules whose switch for busy times is on.
        ailing: Why deployments are left out for a while, by their names.
        prepared: Room for what decisions prepare once per view; see `decide`.
    """

    catalog: Catalog
    stats: Stats = NO_STATS
    providers: Mapping[str, str] | None = None
    busy: frozenset[str] = frozenset()
    ailing: Mapping[str, str] = field(default_factory=dict)
    prepared: Prepared = field(default_factory=Prepared)

    def obstacle_of(self, deployment: str, provider: str) -> str:
        """Why a deployment cannot serve just now; empty when it can."""
        return self.ailing.get(deployment) or self.obstacle(provider)

    def obstacle(self, provider: str) -> str:
        """Why a provider cannot serve; empty when it can, or when nobody knows."""
        if self.providers is None:
            return ""
        return self.providers.get(provider, "the provider is not there")


class Status(NamedTuple):
    """Which catalog is in force since when (seconds since 1970 UTC), and why a newer one is not."""

    catalog: Catalog
    load_time: int
    error: str


class CatalogStore:
    """Holds the view in force.

    Args:
        config: The first configuration.
        clock: Seconds since 1970 UTC.

    Raises:
        CatalogError: The first configuration makes no catalog; there is no last good one to keep.
    """

    def __init__(self, config: CatalogConfig, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._wanted = config
        self._providers: Sequence[Provider] | None = None
        self._unreadable = ""
        self._refused = ""
        self._view = View(build(config, None, clock()))
        self._made_of: tuple[CatalogConfig, Sequence[Provider] | None] = (config, None)
        self._load_time = int(clock())

    @property
    def view(self) -> View:
        """What decisions are made from; its prices may be those of a moment ago, see `at`."""
        return self._view

    def at(self, now: float) -> View:
        """What decisions are made from at a moment: with the prices that are in force then."""
        if now >= self._view.catalog.until:
            self._turn(now)
        return self._view

    @property
    def books(self) -> Mapping[str, str]:
        """The names of the providers in the price lists; without those that are in none."""
        return {provider.name: provider.price_book for provider in self._providers or () if provider.price_book}

    def priced(self, now: float) -> Catalog:
        """The catalog in force with the prices of another moment."""
        return build(*self._made_of, now)

    @property
    def status(self) -> Status:
        """For operators."""
        return Status(self._view.catalog, self._load_time, self._unreadable or self._refused)

    def trial(self, config: CatalogConfig) -> Catalog:
        """The catalog that a configuration would make now; nothing changes.

        Raises:
            CatalogError: With every fault.
        """
        return build(config, self._providers, self._clock())

    def configure(self, config: CatalogConfig) -> None:
        """Takes a new configuration, when it is good."""
        self._unreadable = ""
        self._wanted = config
        self._rebuild()

    def refuse(self, error: str) -> None:
        """Notes that the source cannot even be read; the catalog in force stays."""
        if error != self._unreadable:
            self._log_refusal(error)
        self._unreadable = error

    def offer(self, providers: Iterable[Provider]) -> None:
        """Takes what the providers say of themselves."""
        self._providers = tuple(providers)
        obstacles = {provider.name: provider.unavailable for provider in self._providers}
        self._view = replace(self._view, providers=obstacles, prepared=Prepared())
        self._rebuild()

    def measure(self, stats: Stats) -> None:
        """Takes new live figures."""
        self._view = replace(self._view, stats=stats, busy=self._busy(self._view.catalog, stats), prepared=Prepared())

    def hear(self, ailing: Mapping[str, str]) -> None:
        """Takes which deployments are left out for a while, and why."""
        if ailing != self._view.ailing:
            self._view = replace(self._view, ailing=dict(ailing), prepared=Prepared())

    def _rebuild(self) -> None:
        try:
            catalog = build(self._wanted, self._providers, self._clock())
        except CatalogError as error:
            if str(error) != self._refused:
                self._log_refusal(str(error))
            self._refused = str(error)
            return
        self._refused = ""
        self._made_of = self._wanted, self._providers
        if catalog.version == self._view.catalog.version:
            if catalog.price_versions != self._view.catalog.price_versions:
                self._put(catalog)
            return
        self._put(catalog)
        self._load_time = int(self._clock())
        _log.info(
            "catalog loaded", version=catalog.version, models=len(catalog.models), deployments=catalog.deployments
        )
        for warning in catalog.warnings:
            _log.warning("catalog warning", warning=warning)

    def _turn(self, now: float) -> None:
        """Has the catalog in force have the prices of now: all of it is made again, at moments that are hours apart."""
        before = self._view.catalog.price_versions
        self._put(self.priced(now))
        if before != self._view.catalog.price_versions:
            _log.info("prices turned", version=self._view.catalog.version)

    def _put(self, catalog: Catalog) -> None:
        self._view = replace(
            self._view, catalog=catalog, busy=self._busy(catalog, self._view.stats), prepared=Prepared()
        )

    def _busy(self, catalog: Catalog, stats: Stats) -> frozenset[str]:
        """Which switches for busy times are on; told when one of them turns."""
        before = self._view.busy
        busy = switched(before, catalog.schedules.values(), stats.load)
        for name in sorted(busy ^ before):
            _log.info("load switch turned", schedule=name, on=name in busy, load=round(stats.load, 1))
        return busy

    def _log_refusal(self, error: str) -> None:
        _log.error("catalog refused", error=error, version_in_force=self._view.catalog.version)
