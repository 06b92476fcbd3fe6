"""A rollout from its first step to its end, with the catalog, the history and the log following it."""

from collections.abc import Sequence

import pytest

from polyroute.api.errors.v1.errors_pb2 import REASON_SERVICE_UNAVAILABLE
from polyroute.api.metrics.v1 import metrics_pb2 as metrics
from polyroute.mesh.errors import MeshError
from polyroute.router.canary import Canary
from polyroute.router.reload import Reloader
from polyroute.router.rollout import overlaid
from polyroute.router.snapshot import CatalogStore
from tests.fakes.archives import FakeArchive
from tests.fakes.catalogs import NOW, read

CATALOG = """
models: {old: {deployments: [p/a]}, new: {deployments: [p/b]}}
aliases:
  fast: {targets: old, rollout: {to: new, steps: [10, 50, 100], every: 10m, min_calls: 5, guards: {error_rate: 0.2}}}
  first: fast
"""


class Site:
    """A router with a rollout, and the calls that a test says there were."""

    def __init__(self) -> None:
        self.now = NOW
        self.archive = FakeArchive()
        self.bad = 0
        self.good = 0
        self.asked: list[tuple[str, float]] = []
        self.failure: MeshError | None = None
        self.catalogs, self.reloader, self.canary = self.router()

    def router(self) -> tuple[CatalogStore, Reloader, Canary]:
        """One of the routers of this archive."""
        config, rows = read(CATALOG), self.archive.rows
        catalogs = CatalogStore(overlaid(config, rows))
        reloader = Reloader(catalogs, config, rows, lambda: read(CATALOG), self.archive, clock=self.clock)
        canary = Canary(reloader, catalogs, self.archive, self.calls, interval=5, clock=self.clock)
        return catalogs, reloader, canary

    def clock(self) -> float:
        """The time."""
        return self.now

    async def calls(self, model: str, since: float) -> Sequence[metrics.CallRecord]:
        """What metrics would say."""
        self.asked.append((model, since))
        if self.failure is not None:
            raise self.failure
        if model != "new":
            return []
        good = metrics.CallRecord(requested_model="first", outcome=metrics.OUTCOME_COMPLETED)
        bad = metrics.CallRecord(requested_model="fast", outcome=metrics.OUTCOME_FAILED)
        return [good] * self.good + [bad] * self.bad

    async def pass_(self, seconds: float) -> None:
        """Time passes, and the router looks."""
        self.now += seconds
        await self.canary.look()

    def targets(self, catalogs: CatalogStore | None = None) -> dict[str, int]:
        """Where the alias leads."""
        alias = (catalogs or self.catalogs).view.catalog.aliases[0]
        return dict(alias.targets)

    @property
    def notes(self) -> list[tuple[str, str]]:
        """The history."""
        return [(row.author, row.note) for row in self.archive.versions]


@pytest.fixture
async def site() -> Site:
    """A router that has begun its rollout."""
    site = Site()
    await site.canary.look()
    return site


async def test_all_the_way(site: Site) -> None:
    """Step by step to the new model alone; each step is a version of the catalog."""
    assert {"old": 90, "new": 10} == site.targets()
    site.good = 100
    await site.pass_(300)
    assert {"old": 90, "new": 10} == site.targets()
    await site.pass_(300)
    assert {"old": 50, "new": 50} == site.targets()
    await site.pass_(600)
    assert {"new": 100} == site.targets()
    await site.pass_(600)

    assert "done" == site.archive.rows["fast"].state
    assert [
        ("file", ""),
        ("rollout", "fast: 50 % to new"),
        ("rollout", "fast: 100 % to new"),
    ] == site.notes
    assert ("new", NOW) == site.asked[0]


async def test_back_by_itself(site: Site) -> None:
    """One evaluation after the guard broke the alias is what it was, and history and status say why."""
    site.good, site.bad = 2, 2
    await site.pass_(5)

    assert {"old": 1} == site.targets()
    reason = "error_rate is 0.5 of at most 0.2 in 4 calls"
    assert ("rollout", f"fast: rolled back from new: {reason}") == site.notes[-1]
    _, row = site.reloader.rollouts["fast"]
    assert ("rolled_back", reason) == (row.state, row.reason)
    await site.reloader.reload()
    await site.pass_(600)
    assert {"old": 1} == site.targets()


async def test_restart_in_the_middle(site: Site) -> None:
    """A router that starts finds the step as it was left, before its first decision."""
    site.good = 100
    await site.pass_(600)

    catalogs, _, _ = site.router()

    assert {"old": 50, "new": 50} == site.targets(catalogs)


async def test_other_routers_follow(site: Site) -> None:
    """One of them evaluates; all do what it found, and the history has it once."""
    catalogs, _, other = site.router()
    site.bad = 5
    await site.pass_(5)
    asked = len(site.asked)
    await other.look()

    assert {"old": 1} == site.targets(catalogs)
    assert asked == len(site.asked)
    assert 2 == len(site.notes)


async def test_nobody_is_led_on_while_metrics_is_away(site: Site) -> None:
    """Without figures the step stays."""
    site.failure = MeshError(REASON_SERVICE_UNAVAILABLE, "away")
    await site.pass_(900)

    assert {"old": 90, "new": 10} == site.targets()
    assert "running" == site.archive.rows["fast"].state
