"""What a provider bills, as it is told of one of its models."""

import pytest

from polyroute.api.providers.v1.providers_pb2 import Provider
from polyroute.api.router.v1.router_pb2 import BILLED_PART_WHOLE, Billing
from polyroute.providers.bills import GOES_ON, told
from polyroute.providers.vendors.openai import VENDOR as OPENAI
from polyroute.router.billing import billing_of
from polyroute.router.build import build
from polyroute.router.catalog import Model
from polyroute.router.config import CatalogConfig


@pytest.mark.parametrize(
    ("model", "searches"),
    [
        ("gpt-5", False),
        ("gpt-4o-search-preview", True),
        ("sonar-pro", True),
        ("perplexity/sonar", True),
        ("openai/GPT-4o-Search-Preview", True),
    ],
)
def test_models_that_search_unasked(model: str, searches: bool) -> None:
    """By their names, whoever serves them; and nothing of it where no model of the provider does."""
    found = billing_of(told(OPENAI.bills), model)

    assert searches == (found is not None and found.searches)
    assert billing_of(Billing(source="https://example.com"), model) is None
    assert billing_of(None, model) is None


def test_what_is_said_stays_with_the_provider() -> None:
    """A plan carries what counts for its call, and not where it is written."""
    found = billing_of(told(GOES_ON), "m")

    assert Billing(disconnect=BILLED_PART_WHOLE) == found


def test_names_that_are_passed_on_are_billed_like_others() -> None:
    """A model that nobody described is still its provider's."""
    hub = Provider(name="hub", open_ended=True, billing=told(GOES_ON))
    catalog = build(CatalogConfig(), [hub])
    found = [catalog.lookup(name) for name in ("hub/x", "hub/sonar")]

    assert [Billing(disconnect=BILLED_PART_WHOLE), Billing(disconnect=BILLED_PART_WHOLE, searches=True)] == [
        model.deployments[0].billing for model in found if isinstance(model, Model)
    ]
