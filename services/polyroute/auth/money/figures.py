"""What hard budgets have left, in Prometheus' words.

Budgets of projects and accounts alone, for there may be any number of keys; and of those the ones that have least left.
They are read every now and then and not when they are asked for: a scrape waits for no database.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, or_, select

from polyroute.auth import schema
from polyroute.auth.database import Database
from polyroute.auth.money.budgets import Budget, budget_of, current
from polyroute.mesh.errors import MeshError

EVERY: Final = 15.0  # s between two looks
MOST: Final = 100  # budgets that are told
READ: Final = 10_000  # that are looked at
_OWNERS: Final[Mapping[str, str]] = {"prj": "project", "acc": "account"}
_NANO: Final = 1e9
_MICROSECONDS: Final = 1_000_000
_B: Final = schema.budgets.c

_log = structlog.get_logger("auth")


class BudgetFigures(Collector):
    """See above; `run` must be running.

    Args:
        database: Where budgets are.
        clock: Seconds since the Unix epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._budgets: list[Budget] = []

    async def run(self) -> None:
        """Looks again and again; while the database is away, what was known before stands."""
        while True:
            try:
                await self.look()
            except MeshError as error:
                _log.warning("budgets not read", reason=error.message)
            await asyncio.sleep(EVERY)

    async def look(self) -> None:
        """Looks once.

        Raises:
            MeshError: The database is away.
        """
        now = int(self._clock() * _MICROSECONDS)
        found = [current(budget, now) for budget in await self._database.read(_hard)]
        self._budgets = sorted(found, key=lambda budget: budget.left)[:MOST]

    def collect(self) -> Iterator[Metric]:
        """The figures as of the last look."""
        left = GaugeMetricFamily(
            "polyroute_budget_remaining_usd",
            "what a hard budget has left in its period, holds taken off",
            labels=("owner", "id", "period"),
        )
        told: dict[tuple[str, str, str], float] = {}
        for budget in reversed(self._budgets):  # of two with the same period, the one that has less
            owner = _OWNERS[budget.scope.partition("_")[0]]
            told[owner, budget.scope, budget.period.name.lower()] = budget.left / _NANO
        for labels, usd in told.items():
            left.add_metric(labels, usd)
        yield left


def _hard(connection: Connection) -> list[Budget]:
    owned = or_(*(_B.scope.startswith(f"{prefix}_", autoescape=True) for prefix in _OWNERS))
    tight = _B.amount - _B.spent - _B.held
    rows = connection.execute(select(schema.budgets).where(_B.hard, owned).order_by(tight).limit(READ))
    return [budget_of(row._mapping) for row in rows]  # noqa: SLF001 - the public name of a row's mapping
