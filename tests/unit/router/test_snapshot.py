"""What is in force when something changes, and what stays when the change is bad."""

import pytest

from polyroute.api.metrics.v1.metrics_pb2 import DeploymentStats, WatchStatsResponse, WindowStats
from polyroute.api.providers.v1.providers_pb2 import KnownModel, Provider
from polyroute.router.catalog import CatalogError
from polyroute.router.snapshot import NO_STATS, CatalogStore, stats_from
from tests.fakes.catalogs import NOW, opened, read

GOOD = "{models: {m: {deployments: [p/a]}}}"
BAD = "{models: {m: {deployments: [p/a]}}, aliases: {a: nobody}}"


def test_first_catalog_must_be_good() -> None:
    """There is nothing to fall back on, so the role does not start."""
    with pytest.raises(CatalogError, match="stands for itself"):
        CatalogStore(read("{aliases: {a: a}}"))


def test_bad_catalog_leaves_the_last_good_one() -> None:
    """The view stays as it is and the status says why; the next good catalog clears it."""
    store = opened(GOOD, "p")
    before = store.view

    store.configure(read(BAD))

    assert before is store.view
    assert "aliases.a: unknown model 'nobody'" == store.status.error
    store.configure(read("{models: {n: {deployments: [p/a]}}}"))
    assert "" == store.status.error
    assert ["n"] == [model.name for model in store.view.catalog.models]


def test_unreadable_source_leaves_the_last_good_one() -> None:
    """What cannot be read is told, and changes nothing."""
    store = opened(GOOD, "p")
    before = store.view

    store.refuse("not YAML")

    assert before is store.view
    assert "not YAML" == store.status.error


def test_providers_do_not_hide_an_unreadable_source() -> None:
    """The source's error stays until the source is good, whatever else happens."""
    store = opened(GOOD, "p")
    store.refuse("not YAML")

    store.offer([Provider(name="p"), Provider(name="q")])

    assert "not YAML" == store.status.error
    store.configure(read(GOOD))
    assert "" == store.status.error


def test_refused_catalog_comes_into_force_when_its_provider_appears() -> None:
    """A catalog may be ahead of the providers: it is tried again when they change."""
    store = opened(GOOD, "p")
    store.configure(read("{models: {n: {deployments: [q/a]}}}"))
    refused = store.status.error
    store.offer([Provider(name="p"), Provider(name="q")])

    assert "unknown provider 'q'" in refused
    assert "" == store.status.error
    assert ["n"] == [model.name for model in store.view.catalog.models]


def test_same_content_is_the_same_catalog() -> None:
    """Touching the file changes neither version nor time."""
    store = opened(GOOD, "p")
    before = store.view.catalog

    store.configure(read(GOOD))

    assert before is store.view.catalog
    assert int(NOW) == store.status.load_time


def test_provider_that_becomes_able_serves_at_once() -> None:
    """The embedded model is found first and ready later."""
    store = opened("{}", Provider(name="local", discovered=True, models=[KnownModel(id="x")], unavailable="loading"))
    before = store.view.obstacle("local")
    store.offer([Provider(name="local", discovered=True, models=[KnownModel(id="x")])])

    assert ("loading", "") == (before, store.view.obstacle("local"))


def test_a_view_never_changes() -> None:
    """A decision that holds a view is not disturbed by what arrives meanwhile."""
    store = opened(GOOD, "p")
    view = store.view

    store.measure(NO_STATS._replace(version=9))
    store.offer([])

    assert (0, "") == (view.stats.version, view.obstacle("p"))
    assert 9 == store.view.stats.version


def test_few_attempts_say_nothing() -> None:
    """Success rates count from the fifth attempt of the last minute."""
    message = WatchStatsResponse(
        version=3,
        deployments=[
            DeploymentStats(deployment="few", one_minute=WindowStats(attempts=4, successes=0)),
            DeploymentStats(deployment="some", one_minute=WindowStats(attempts=5, successes=1)),
            DeploymentStats(deployment="old", thirty_minutes=WindowStats(attempts=50)),
        ],
    )

    assert (3, {"some": 0.2}) == stats_from(message)
