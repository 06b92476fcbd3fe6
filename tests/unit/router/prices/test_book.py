"""Which list is believed, and for how long."""

from datetime import datetime
from math import inf
from typing import Any

from polyroute.router.prices.book import PriceBook, PricesAt
from polyroute.router.prices.config import PricesConfig

NOW = datetime.fromisoformat("2026-11-20T10:00+00:00").timestamp()
LATER = datetime.fromisoformat("2026-12-01T00:00+00:00").timestamp()


def listing(models: dict[str, Any], **exchange: Any) -> PricesConfig:
    """A price list."""
    return PricesConfig.model_validate({"models": models, "exchange": exchange})


def row(figure: float, **more: Any) -> dict[str, Any]:
    """A row that is known by its figure."""
    return {"input": figure, "output": figure, **more}


def found(prices: PricesAt, provider: str, model: str) -> tuple[str, float | None, float]:
    """Who says so, what, and until when."""
    quote, _ = prices.listed(provider, model)
    return quote.origin, None if quote.price is None else quote.price.input / 1e9, quote.until


def test_the_operator_is_believed_before_the_project_and_the_project_before_the_package() -> None:
    """Each list where those before it say nothing."""
    operator = listing({"openai/gpt-4o": row(1)})
    project = listing({"openai/gpt-4o": row(2), "openai/gpt-4o-mini": row(3)})
    prices = PricesAt(PriceBook(operator, project), {"openai": "openai"}, NOW)

    assert ("prices", 1.0, inf) == found(prices, "openai", "gpt-4o")
    assert ("overlay", 3.0, inf) == found(prices, "openai", "gpt-4o-mini")
    assert ("genai-prices", 2.0, inf) == found(prices, "openai", "gpt-4.1")
    assert ("", None, inf) == found(prices, "openai", "no-such-model")


def test_an_accounts_own_name_comes_before_the_vendors() -> None:
    """One account may have a contract of its own."""
    operator = listing({"openai/gpt-4o": row(1), "ours/gpt-4o": row(2)})
    prices = PricesAt(PriceBook(operator, listing({})), {"ours": "openai", "theirs": "openai"}, NOW)

    assert ("prices", 2.0, inf) == found(prices, "ours", "gpt-4o")
    assert ("prices", 1.0, inf) == found(prices, "theirs", "gpt-4o")


def test_a_row_yet_to_come_leaves_the_next_list_in_force_until_then() -> None:
    """The boundary is the operator's date, whoever speaks until it comes."""
    book = PriceBook(listing({"v/m": row(1, effective_from="2026-12-01")}), listing({"v/m": row(2)}))
    before, after = PricesAt(book, {"p": "v"}, NOW), PricesAt(book, {"p": "v"}, LATER)

    assert ("overlay", 2.0, LATER) == found(before, "p", "m")
    assert ("prices", 1.0, inf) == found(after, "p", "m")
    assert LATER == before.until


def test_a_provider_without_a_book_has_the_operators_prices_alone() -> None:
    """A server of one's own is in no list; a list of a vendor of that name says nothing of it."""
    prices = PricesAt(PriceBook(listing({"own/m": row(1)}), listing({"own/n": row(2)})), {}, NOW)

    assert ("prices", 1.0, inf) == found(prices, "own", "m")
    assert ("", None, inf) == found(prices, "own", "n")


def test_the_operators_rate_stands_above_the_projects() -> None:
    """For the project's rows too: it is the operator who pays."""
    project = listing({"v/m": row(7, currency="CNY")}, CNY=[{"per_usd": 7, "since": "2026-01-01"}])
    operator = listing({}, CNY=[{"per_usd": "3.5", "since": "2026-01-01"}])

    assert ("overlay", 1.0, inf) == found(PricesAt(PriceBook(listing({}), project), {"p": "v"}, NOW), "p", "m")
    assert ("overlay", 2.0, inf) == found(PricesAt(PriceBook(operator, project), {"p": "v"}, NOW), "p", "m")


def test_a_currency_without_a_rate_is_a_fault() -> None:
    """It says where to put one."""
    book = PriceBook(listing({"v/m": [row(1), row(2, currency="EUR", effective_from="2026-12-01")]}), listing({}))
    expected = "prices.models.v/m[1].currency: what a dollar costs in EUR is not known: say it in prices.exchange.EUR"

    assert [expected] == book.faults()


def test_nothing_is_read_for_a_catalog_that_needs_no_list() -> None:
    """A start without a price list costs nothing."""
    book = PriceBook(listing({}))

    assert ("", None, inf) == found(PricesAt(book, {}, NOW), "p", "m")
    assert book._tables is None
