"""Watches the rollouts of the catalog: who is to evaluate one asks for its calls, judges them, and moves it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import structlog

from polyroute.api.metrics.v1.metrics_pb2 import CallRecord
from polyroute.mesh.errors import MeshError
from polyroute.router import rollout
from polyroute.router.catalog import Alias, Catalog, Entry
from polyroute.router.config import RolloutConfig
from polyroute.router.reload import Reloader
from polyroute.router.snapshot import CatalogStore
from polyroute.router.store import RolloutRow

TICK: Final = 1.0  # s between two looks at what others have done

Calls = Callable[[str, float], Awaitable[Sequence[CallRecord]]]
"""Gives the newest calls that a model served since a moment, seconds since 1970 UTC."""

_log = structlog.get_logger("router")


class Turns(Protocol):
    """What lets one router at a time move a rollout; `store.Store` is one."""

    async def claim_rollout(self, alias: str, now: float, interval: float) -> bool:
        """Whether this process is the one to evaluate a rollout now."""

    async def move_rollout(self, before: RolloutRow, after: RolloutRow) -> bool:
        """Stores how far a rollout is, unless somebody else has moved it."""


class Canary:
    """The watch.

    Args:
        reloader: Has the rollouts, and puts their steps in force.
        catalogs: Has the catalog.
        turns: Says whose turn it is.
        calls: Asks metrics.
        interval: Seconds between two evaluations of a rollout, by whichever router.
        clock: Seconds since 1970 UTC.
    """

    def __init__(
        self,
        reloader: Reloader,
        catalogs: CatalogStore,
        turns: Turns,
        calls: Calls,
        *,
        interval: float,
        clock: Callable[[], float],
    ) -> None:
        self._reloader = reloader
        self._catalogs = catalogs
        self._turns = turns
        self._calls = calls
        self._interval = interval
        self._clock = clock

    async def run(self) -> None:
        """Looks again and again."""
        while True:
            await self.look()
            await asyncio.sleep(min(TICK, self._interval))

    async def look(self) -> None:
        """Follows what others did, and evaluates every rollout whose turn it is.

        Raises:
            MeshError: The database does not do its part.
        """
        await self._reloader.follow()
        for name, (config, row) in self._reloader.rollouts.items():
            due = row.state == rollout.RUNNING
            if due and await self._turns.claim_rollout(name, self._clock(), self._interval):
                await self._evaluate(config, row)

    async def _evaluate(self, config: RolloutConfig, row: RolloutRow) -> None:
        try:
            new, old = await self._sides(config, row)
        except MeshError as error:  # the step goes on; nobody is led further meanwhile
            _log.warning("rollout not evaluated", alias=row.alias, error=error.message)
            return
        after = rollout.next_row(config, row, new, old, self._clock())
        if after == row or not await self._turns.move_rollout(row, after):
            return
        if after.state == rollout.ROLLED_BACK:
            _log.error("rollout rolled back", alias=row.alias, to=config.to, reason=after.reason)
        elif after[:4] != row[:4]:
            percent = rollout.percent_of(config, after)
            _log.info("rollout moved", alias=row.alias, to=config.to, percent=percent, state=after.state)
        await self._reloader.follow()

    async def _sides(self, config: RolloutConfig, row: RolloutRow) -> tuple[rollout.Side, rollout.Side]:
        """What the calls of the new model and of the others did."""
        catalog = self._catalogs.view.catalog
        names = _leading_to(catalog, row.alias)
        alias = catalog.entries.get(row.alias)
        all_models = _models(catalog, alias)
        new_models = _models(catalog, catalog.lookup(config.to))
        since = row.since_us / 1e6
        new = [one for model in new_models for one in await self._calls(model, since)]
        old = [one for model in all_models if model not in new_models for one in await self._calls(model, since)]
        return rollout.side(new, names), rollout.side(old, names)


def _models(catalog: Catalog, entry: Entry | None) -> list[str]:
    """The models behind a name."""
    if entry is None:
        return []
    return [model.name for model in catalog.targets(entry)] if isinstance(entry, Alias) else [entry.name]


def _leading_to(catalog: Catalog, name: str) -> frozenset[str]:
    """The names, case folded, that callers may ask for and that an alias is on the way of."""
    found = {name}
    while True:
        more = {one.name for one in catalog.aliases if any(target in found for target, _ in one.targets)} - found
        if not more:
            return frozenset(one.casefold() for one in found)
        found |= more
