"""What is in force when something changes, and what stays when the change is bad."""

import pytest

from polyroute.api.providers.v1.providers_pb2 import KnownModel, Provider
from polyroute.router.catalog import CatalogError
from polyroute.router.figures import NO_STATS, Stats
from polyroute.router.snapshot import CatalogStore
from tests.fakes.catalogs import NOW, opened, read
from tests.unit.router.live import live, window

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

    store.measure(Stats(9))
    store.offer([])

    assert (0, "") == (view.stats.version, view.obstacle("p"))
    assert 9 == store.view.stats.version


BUSY = """
policies: {calm: {}, rush: {}}
routing:
  policy: day
  schedules: {day: {load: {above: 10, below: 5, policy: rush}, otherwise: calm}}
"""


def busy(store: CatalogStore, per_second: float) -> bool:
    """Whether the switch is on after figures with so many calls per second."""
    store.measure(live(p__a=window(count=round(per_second * 60))))
    return "day" in store.view.busy


def test_load_switch_has_two_thresholds() -> None:
    """On at the upper one, off at the lower one, and as before between them."""
    store = opened(BUSY, "p")

    assert [False, True, True, False, False] == [busy(store, load) for load in (9.9, 10, 5.1, 5, 9.9)]


def test_load_switch_keeps_its_state_over_a_reload() -> None:
    """A new catalog does not forget that it is a busy time, as long as it has the schedule."""
    store = opened(BUSY, "p")
    busy(store, 12)
    busy(store, 7)

    store.configure(read(BUSY.replace("calm: {}", "calm: {explore: 0}")))

    assert {"day"} == store.view.busy
    store.configure(read("{}"))
    assert NO_STATS.version != store.view.stats.version
    assert set() == store.view.busy
