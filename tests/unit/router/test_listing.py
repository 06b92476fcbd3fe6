"""What models cost as callers see it: where most calls go, and from the cheapest deployment to the dearest."""

import pytest

from polyroute.api.router.v1.router_pb2 import Model
from polyroute.router.listing import listing
from tests.fakes.catalogs import opened

CATALOG = """
models:
  big:
    deployments:
      - {provider: p, model: spare, priority: 1, price: {input: 500, output: 1000}}
      - {provider: p, model: first, priority: 0, price: {input: 1000, output: 2000}}
      - {provider: p, model: dear, priority: 0, price: {input: 3000, output: 3000}}
  small: {deployments: [{provider: p, model: small, price: {input: 1, output: 2}}]}
  img: {deployments: [{provider: p, model: b, price: {image: "0.08"}}, {provider: p, model: a, price: {image: "0.04"}}]}
  dark: {deployments: [p/nobody, {provider: p, model: known, priority: 1, price: {input: 1, output: 2}}]}
aliases:
  some: {small: 1, chain: 9}
  chain: big
"""


@pytest.fixture
def listed() -> dict[str, Model]:
    """The models of the catalog by name."""
    return {model.name: model for model in listing(opened(CATALOG, "p").view.catalog, 0)}


def test_the_first_priority_is_what_a_model_costs(listed: dict[str, Model]) -> None:
    """The cheaper one of it, to which the default policy gives most calls; the others are the ends of the range."""
    big = listed["big"]

    assert [500, 1000, 3000] == [one.input / 10**9 for one in (big.price, big.first_price, big.highest_price)]


def test_an_alias_costs_what_its_heaviest_model_does(listed: dict[str, Model]) -> None:
    """However long the chain; its range is that of all."""
    some = listed["some"]

    assert [1, 1000, 3000] == [one.input / 10**9 for one in (some.price, some.first_price, some.highest_price)]


def test_pictures_are_told_apart_by_what_they_cost(listed: dict[str, Model]) -> None:
    """Not by tokens that cost nothing."""
    img = listed["img"]

    assert [40, 80] == [one.other["images"] / 10**12 for one in (img.first_price, img.highest_price)]


def test_an_unknown_first_price_is_unknown(listed: dict[str, Model]) -> None:
    """Though that of a spare is known."""
    dark = listed["dark"]

    assert (False, True) == (dark.HasField("first_price"), dark.HasField("price"))
