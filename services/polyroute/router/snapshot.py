"""What a decision is made from: the catalog in force, what the providers say of themselves, and the live figures.

A `View` is whole and never changes; whatever arrives makes a new one, which is swapped in by reference. A catalog that
cannot be built leaves the last good one in force, and the reason is told by `CatalogStore.status`.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import structlog

from polyroute.api.metrics.v1.metrics_pb2 import WatchStatsResponse
from polyroute.api.providers.v1.providers_pb2 import Provider
from polyroute.router.build import build
from polyroute.router.catalog import Catalog, CatalogError
from polyroute.router.config import CatalogConfig

_MIN_ATTEMPTS: Final = 5  # fewer say nothing about a deployment
_log = structlog.get_logger("router")


class Stats(NamedTuple):
    """Live figures.

    Args:
        version: Of the message they came with; 0 when there are none.
        success_rates: Of the deployments tried often enough in the last minute, from 0 to 1.
    """

    version: int
    success_rates: Mapping[str, float]


NO_STATS: Final = Stats(0, {})


def stats_from(message: WatchStatsResponse) -> Stats:
    """The figures that decisions use, out of all that metrics sends."""
    rates = {
        figures.deployment: figures.one_minute.successes / figures.one_minute.attempts
        for figures in message.deployments
        if figures.one_minute.attempts >= _MIN_ATTEMPTS
    }
    return Stats(message.version, rates)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Everything a decision reads.

    Args:
        catalog: The catalog in force.
        stats: The live figures.
        providers: Why each provider cannot serve, empty when it can; None while the providers have not been heard.
        prepared: Room for what decisions prepare once per view; see `decide`.
    """

    catalog: Catalog
    stats: Stats = NO_STATS
    providers: Mapping[str, str] | None = None
    prepared: dict[object, object] = field(default_factory=dict)

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
        self._view = View(build(config, None))
        self._load_time = int(clock())

    @property
    def view(self) -> View:
        """What decisions are made from now."""
        return self._view

    @property
    def status(self) -> Status:
        """For operators."""
        return Status(self._view.catalog, self._load_time, self._unreadable or self._refused)

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
        self._view = replace(self._view, providers=obstacles, prepared={})
        self._rebuild()

    def measure(self, stats: Stats) -> None:
        """Takes new live figures."""
        self._view = replace(self._view, stats=stats, prepared={})

    def _rebuild(self) -> None:
        try:
            catalog = build(self._wanted, self._providers)
        except CatalogError as error:
            if str(error) != self._refused:
                self._log_refusal(str(error))
            self._refused = str(error)
            return
        self._refused = ""
        if catalog.version == self._view.catalog.version:
            return
        self._view = replace(self._view, catalog=catalog, prepared={})
        self._load_time = int(self._clock())
        _log.info(
            "catalog loaded", version=catalog.version, models=len(catalog.models), deployments=catalog.deployments
        )

    def _log_refusal(self, error: str) -> None:
        _log.error("catalog refused", error=error, version_in_force=self._view.catalog.version)
