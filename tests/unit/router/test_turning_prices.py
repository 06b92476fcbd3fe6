"""Prices that change with the clock while the catalog stays."""

from datetime import datetime

import pytest

from polyroute.api.providers.v1.providers_pb2 import KnownModel, Provider
from polyroute.api.router.v1.router_pb2 import ListPricesRequest, Plan, Price
from polyroute.mesh.errors import MeshError
from polyroute.router.catalog import CatalogError
from polyroute.router.decide import decide
from polyroute.router.listing import price_list
from polyroute.router.snapshot import CatalogStore
from tests.fakes.catalogs import ask, read

CATALOG = """
models:
  m: {deployments: [p/day, p/flat, {provider: p, model: own, price: {input: 7, output: 8}}]}
prices:
  models:
    p/day:
      input: 2
      output: 8
      windows: [{name: night, start: "22:00", end: "06:00", input: 1, output: 4}]
    p/flat: [{input: 3, output: 9}, {input: 4, output: 9, effective_from: 2026-10-01}]
    p/any-*: {input: 5, output: 5}
"""


def at(text: str) -> float:
    """A moment in seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


class Clock:
    """Stands still until it is set."""

    def __init__(self, now: str) -> None:
        self.now = at(now)

    def __call__(self) -> float:
        return self.now


def store(clock: Clock, text: str = CATALOG, *providers: Provider) -> CatalogStore:
    """A store whose providers were heard."""
    found = CatalogStore(read(text), clock=clock)
    found.offer(providers or [Provider(name="p", open_ended=True)])
    return found


def prices(catalogs: CatalogStore, now: str, model: str = "m") -> dict[str, int]:
    """What the plan of a call at that moment carries: dollars per million prompt tokens, by deployment."""
    response = decide(ask(model), catalogs.at(at(now)), at(now))
    plan = Plan.FromString(response.plan.SerializeToString())
    return {one.deployment: one.price.input // 10**9 for one in plan.attempts}


def test_a_plan_carries_the_price_of_its_moment() -> None:
    """To the second at which it turns, by the clock and by the date."""
    catalogs = store(Clock("2026-09-30T12:00Z"))

    assert {"p/day": 2, "p/flat": 3, "p/own": 7} == prices(catalogs, "2026-09-30T21:59:59Z")
    assert {"p/day": 1, "p/flat": 3, "p/own": 7} == prices(catalogs, "2026-09-30T22:00:00Z")
    assert {"p/day": 1, "p/flat": 4, "p/own": 7} == prices(catalogs, "2026-10-01T00:00:00Z")
    assert {"p/day": 2, "p/flat": 4, "p/own": 7} == prices(catalogs, "2026-10-01T06:00:00Z")


def test_the_view_stays_until_a_price_turns() -> None:
    """What decisions prepared is kept; between boundaries a look costs one comparison."""
    catalogs = store(Clock("2026-10-02T12:00Z"))
    before = catalogs.at(at("2026-10-02T12:00Z"))

    assert before is catalogs.at(at("2026-10-02T21:59:59Z"))
    after = catalogs.at(at("2026-10-02T22:00Z"))
    assert before is not after
    assert after is catalogs.at(at("2026-10-03T05:59Z"))


def test_the_catalog_keeps_its_version_and_the_slate_does_not() -> None:
    """A record names both: the content that was written, and what candidates cost then."""
    catalogs = store(Clock("2026-10-02T12:00Z"))
    day, night = at("2026-10-02T12:00Z"), at("2026-10-02T22:00Z")
    first = decide(ask("m"), catalogs.at(day), day).record
    second = decide(ask("m"), catalogs.at(night), night).record

    assert first.catalog_version == second.catalog_version
    assert first.slate_id != second.slate_id


def test_other_prices_are_another_catalog() -> None:
    """As they are written, not as they are at the moment."""
    clock = Clock("2026-10-02T12:00Z")
    same, other = store(clock), store(clock, CATALOG.replace("input: 1", "input: 1.5"))

    assert same.view.catalog.version == store(Clock("2026-10-02T23:00Z")).view.catalog.version
    assert same.view.catalog.version != other.view.catalog.version


def test_a_model_that_is_passed_on_has_the_price_of_the_lists() -> None:
    """By the name that was asked for."""
    catalogs = store(Clock("2026-10-02T12:00Z"))

    assert {"p/any-thing": 5} == prices(catalogs, "2026-10-02T12:00Z", "p/any-thing")
    assert {"p/day": 1} == prices(catalogs, "2026-10-02T22:30Z", "p/day")


def test_prices_turn_for_a_model_that_only_a_caller_named() -> None:
    """The catalog itself has no price that could turn."""
    text = CATALOG.replace("p/day, p/flat, ", "")
    catalogs = store(Clock("2026-10-02T12:00Z"), text)

    assert {"p/day": 2} == prices(catalogs, "2026-10-02T21:59Z", "p/day")
    assert {"p/day": 1} == prices(catalogs, "2026-10-02T22:00Z", "p/day")
    assert {"p/day": 2} == prices(catalogs, "2026-10-03T06:00Z", "p/day")


def test_a_refused_catalog_does_not_stop_the_clock() -> None:
    """The one in force has the prices of the moment, however bad the newest is."""
    catalogs = store(Clock("2026-10-02T12:00Z"))
    catalogs.configure(read("{models: {m: {deployments: [p/day]}}, aliases: {a: nobody}}"))

    assert catalogs.status.error
    assert {"p/day": 1, "p/flat": 4, "p/own": 7} == prices(catalogs, "2026-10-02T22:00Z")


def test_what_a_provider_says_of_its_own_machine_comes_last() -> None:
    """Free unless a list says otherwise; and what nobody knows is unknown, not free."""
    own = Provider(
        name="p",
        discovered=True,
        models=[
            KnownModel(id="day", price=Price(version="local")),
            KnownModel(id="tiny", price=Price(version="local")),
        ],
    )
    catalogs = store(Clock("2026-10-02T12:00Z"), CATALOG.replace("p/flat, ", "p/nobodys, "), own)
    listed = price_list(catalogs.priced(at("2026-10-02T12:00Z")), ListPricesRequest(), catalogs.books).prices

    assert {
        "p/day": ("prices", 2 * 10**9),
        "p/nobodys": ("", None),
        "p/own": ("catalog", 7 * 10**9),
        "p/tiny": ("provider", 0),
    } == {one.deployment: (one.origin, one.price.input if one.HasField("price") else None) for one in listed}


def test_a_price_in_the_catalog_is_named_by_its_figures() -> None:
    """Unless the operator named it."""
    plain = store(Clock("2026-10-02T12:00Z")).view.catalog.models[0].deployments[2]
    named = store(Clock("2026-10-02T12:00Z"), CATALOG.replace("output: 8}}", "output: 8, version: contract}}"))

    assert plain.price is not None
    assert plain.price.version.startswith("catalog ")
    assert "contract" == named.view.catalog.models[0].deployments[2].price.version  # type: ignore[union-attr]


def test_unknown_prices_are_one_warning() -> None:
    """Told once the providers have been heard, for then it is known."""
    text = "{models: {m: {deployments: [p/a, p/b, p/c, p/d, p/e, p/f, p/g]}}}"
    before = CatalogStore(read(text)).view.catalog.warnings
    after = store(Clock("2026-10-02T12:00Z"), text).view.catalog.warnings

    assert () == before
    assert [True] == [
        one.startswith("models: no price is known of p/a, p/b, p/c, p/d, p/e and 2 more: ") for one in after
    ]


def test_a_list_without_a_rate_is_refused() -> None:
    """It could not be charged by."""
    with pytest.raises(CatalogError, match="what a dollar costs in EUR is not known"):
        CatalogStore(read("prices: {models: {p/m: {input: 1, output: 2, currency: EUR}}}"))


def test_the_list_of_prices_by_name() -> None:
    """By public name, upstream id and provider; page by page; only what is missing; and beyond the catalog."""
    catalogs = store(Clock("2026-10-02T12:00Z"), CATALOG.replace("p/flat, ", "p/nobodys, "))
    catalog = catalogs.priced(at("2026-10-02T22:00Z"))

    def named(**asked: object) -> list[str]:
        return [one.deployment for one in price_list(catalog, ListPricesRequest(**asked), {}).prices]  # type: ignore[arg-type]

    assert ["p/day", "p/nobodys", "p/own"] == named(model="M") == named()
    assert ["p/own"] == named(model="own", provider="P")
    assert ["p/nobodys"] == named(missing=True)
    assert ["p/any-x"] == named(model="any-x", provider="p")
    assert [] == named(model="any-x") == named(model="x", provider="q")
    first = price_list(catalog, ListPricesRequest(page_size=2), {})
    assert ("2", ["p/day", "p/nobodys"]) == (first.next_page_token, [one.deployment for one in first.prices])
    assert ["p/own"] == named(page_size=2, page_token="2")
    assert "2026-10-03T06:00:00Z" == first.prices[0].until.ToJsonString()


def test_a_decision_needs_no_price() -> None:
    """An unknown price is no reason to refuse a call; a budget is, and that is not the router's to say."""
    catalogs = store(Clock("2026-10-02T12:00Z"), "{models: {m: {deployments: [p/nobodys]}}}")
    response = decide(ask("m"), catalogs.at(0.0), 0.0)

    assert not response.plan.attempts[0].HasField("price")
    with pytest.raises(MeshError):
        decide(ask("nothing-here"), catalogs.at(0.0), 0.0)
