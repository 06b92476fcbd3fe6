"""What Prometheus is told of budgets."""

from pathlib import Path

from prometheus_client import CollectorRegistry

from polyroute.auth.money.figures import MOST, BudgetFigures
from polyroute.auth.money.periods import Period
from polyroute.mesh.config import DatabaseConfig
from tests.unit.auth.money import ACCOUNT, KEY, PROJECT, treasury

NAME = "polyroute_budget_remaining_usd"


async def test_what_hard_budgets_have_left(tmp_path: Path, database: DatabaseConfig) -> None:
    """Of projects and accounts, holds taken off; a period that is over counts as begun anew; keys are not named."""
    async with treasury(tmp_path, database) as money:
        figures = BudgetFigures(money.database, money.clock)
        registry = CollectorRegistry()
        registry.register(figures)
        await money.budget(PROJECT, 5_000_000_000, period=Period.DAILY)
        await money.budget(ACCOUNT, 7_000_000_000, hard=False)
        await money.budget(KEY, 1_000_000_000)
        await money.hold("r", 1_000_000_000)
        await figures.look()
        labels = {"owner": "project", "id": PROJECT, "period": "daily"}
        held = registry.get_sample_value(NAME, labels)
        await money.charge("r", 400_000_000)
        await figures.look()
        charged = registry.get_sample_value(NAME, labels)
        money.clock.advance(86_400 * 2)
        await figures.look()

        assert (4.0, 4.6, 5.0) == (held, charged, registry.get_sample_value(NAME, labels))
        assert [labels] == [sample.labels for metric in registry.collect() for sample in metric.samples]


async def test_no_more_than_the_tightest(tmp_path: Path) -> None:
    """The number of series is bounded; those with the least left are told."""
    async with treasury(tmp_path) as money:
        for number in range(MOST + 20):
            await money.budget(f"prj_{number:03}", (number + 1) * 1_000_000_000)
        figures = BudgetFigures(money.database, money.clock)
        await figures.look()
        (metric,) = figures.collect()

        assert {f"prj_{number:03}" for number in range(MOST)} == {sample.labels["id"] for sample in metric.samples}
