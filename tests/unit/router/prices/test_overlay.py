"""The list that comes with the project: where each figure is from, and what calls cost by it."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Final

import pytest
from genai_prices.data import providers

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.edge.costs import cost_of
from polyroute.providers.registry import all_vendors
from polyroute.router.prices.book import PriceBook, PricesAt, project_list
from polyroute.router.prices.config import FiguresConfig, PricesConfig, RowConfig, TimesConfig

PER_USD: Final = 6.7686
ROWS: Final = [(name, row) for name, rows in project_list().models.items() for row in rows]


def books() -> set[str]:
    """Every name that an account can have in the lists."""
    return {
        book for vendor in all_vendors().values() for book in (vendor.price_book, *vendor.price_books.values()) if book
    }


def test_every_row_says_where_it_is_from_and_when_it_was_checked() -> None:
    """In the currency that the vendor bills in, of a day that has been."""
    for name, row in ROWS:
        assert row.source.startswith("https://"), name
        assert date(2026, 1, 1) <= (row.checked or date.min) <= date(2026, 11, 22), name
        assert row.currency == "CNY", name


def test_every_row_is_somebodys() -> None:
    """A name that no account has would silently price nothing."""
    assert {name.partition("/")[0] for name, _ in ROWS} <= books()


def test_the_vendors_that_the_package_lacks_are_there() -> None:
    """At least one row of each."""
    expected = {
        "dashscope",
        "deepseek",
        "hunyuan",
        "minimax-cn",
        "moonshot-cn",
        "qianfan",
        "siliconflow",
        "stepfun",
        "volcengine",
        "zhipuai",
    }

    assert expected == {name.partition("/")[0] for name, _ in ROWS}


def test_rates_are_dated_and_sourced() -> None:
    """Those of days that have been, each once."""
    rates = project_list().exchange["CNY"]

    assert all(rate.source.startswith("https://") and 6 < rate.per_usd < 8 for rate in rates)
    assert sorted({rate.since for rate in rates}) == [rate.since for rate in rates]


def steps(row: RowConfig) -> Iterator[tuple[FiguresConfig, FiguresConfig]]:
    """Each tier with the one before it, of the row and of its windows."""
    parts: list[RowConfig | TimesConfig] = [row, *row.windows]
    for part in parts:
        before: FiguresConfig = part
        for tier in part.tiers:
            yield before, tier
            before = tier


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[name for name, _ in ROWS])
def test_longer_calls_are_never_cheaper(name: str, row: RowConfig) -> None:
    """A slip of the pen would be: a figure of the next tier below that of the one before."""
    for before, after in steps(row):
        assert (before.input or 0) <= (after.input or 0)
        assert (before.output or 0) <= (after.output or 0)
        assert (before.cache_read or 0) <= (after.cache_read or 0)
    assert (row.output or 0) >= (row.input or 0) >= (row.cache_read or 0)


def cost(book: str, model: str, moment: str, **usage: int) -> float:
    """What a call costs in CNY by the list, to six digits."""
    prices = PricesAt(PriceBook(PricesConfig()), {"p": book}, datetime.fromisoformat(moment).timestamp())
    quote, _ = prices.listed("p", model)
    used = Usage()
    for name, count in usage.items():
        setattr(used, name, count)
    assert quote.price is not None
    assert "overlay" == quote.origin
    return round(cost_of(used, quote.price) / 1e9 * PER_USD, 6)


FRIDAY = "2026-11-20T10:00+08:00"


@pytest.mark.parametrize(
    ("book", "model", "moment", "usage", "expected"),
    [
        # peak and off-peak, at the bounds, on a weekend, and on a holiday
        ("deepseek", "deepseek-flash", FRIDAY, {"input_tokens": 10**6, "output_tokens": 10**6}, 10.0),
        ("deepseek", "deepseek-flash", "2026-11-20T12:00+08:00", {"input_tokens": 10**6, "output_tokens": 10**6}, 5.0),
        ("deepseek", "deepseek-flash", "2026-11-20T17:59+08:00", {"cache_read_tokens": 10**6}, 0.04),
        ("deepseek", "deepseek-flash", "2026-11-20T18:00+08:00", {"cache_read_tokens": 10**6}, 0.02),
        ("deepseek", "deepseek-v4-pro", "2026-11-21T10:00+08:00", {"input_tokens": 10**6}, 4.5),
        ("deepseek", "deepseek-v4-pro", "2026-10-01T10:00+08:00", {"input_tokens": 10**6}, 4.5),
        ("deepseek", "deepseek-v4-pro", FRIDAY, {"input_tokens": 10**6, "reasoning_tokens": 10**6}, 36.0),
        # tiers by the prompt, cached tokens counted in
        ("dashscope", "qwen3-max", FRIDAY, {"input_tokens": 32_000, "output_tokens": 1000}, 0.09),
        ("dashscope", "qwen3-max", FRIDAY, {"input_tokens": 32_001, "output_tokens": 1000}, 0.144004),
        ("dashscope", "qwen3-max", FRIDAY, {"input_tokens": 2001, "cache_read_tokens": 30_000}, 0.032004),
        ("dashscope", "qwen3-max", FRIDAY, {"input_tokens": 200_000, "output_tokens": 1000}, 1.428),
        # whether the model thought
        ("dashscope", "qwen-plus", FRIDAY, {"input_tokens": 10**5, "output_tokens": 10**4}, 0.1),
        (
            "dashscope",
            "qwen-plus",
            FRIDAY,
            {"input_tokens": 10**5, "output_tokens": 9000, "reasoning_tokens": 1000},
            0.16,
        ),
        ("dashscope", "qwen3.6-plus", FRIDAY, {"cache_write_tokens": 10**5}, 0.25),
        # tiers by the answer
        ("volcengine", "doubao-seed-1-8-251228", FRIDAY, {"input_tokens": 1000, "output_tokens": 200}, 0.0012),
        ("volcengine", "doubao-seed-1-8-251228", FRIDAY, {"input_tokens": 1000, "output_tokens": 201}, 0.002408),
        ("volcengine", "doubao-seed-1-8-251228", FRIDAY, {"input_tokens": 40_000, "output_tokens": 100}, 0.0496),
        ("zhipuai", "glm-4.7", FRIDAY, {"input_tokens": 10_000, "output_tokens": 1000}, 0.044),
        # a price that ended
        ("zhipuai", "GLM-5.3-Flash", "2026-09-09T23:59+08:00", {"input_tokens": 10**6}, 0.4),
        ("zhipuai", "GLM-5.3-Flash", "2026-09-10T00:00+08:00", {"input_tokens": 10**6}, 0.8),
        ("hunyuan", "hunyuan-2.0-instruct-20251111", FRIDAY, {"input_tokens": 10**4, "output_tokens": 10**3}, 0.03975),
        ("qianfan", "ernie-5.1", FRIDAY, {"input_tokens": 10**4, "output_tokens": 10**3}, 0.058),
        ("stepfun", "step-3.5-flash-2603", FRIDAY, {"input_tokens": 10**6, "output_tokens": 10**6}, 2.8),
        ("stepfun", "step-1x-medium", FRIDAY, {"images": 3}, 0.3),
        ("siliconflow", "Qwen/Qwen3.6-27B", FRIDAY, {"input_tokens": 131_073}, 0.235931),
        ("minimax-cn", "MiniMax-M2.7", FRIDAY, {"cache_write_tokens": 10**6, "cache_read_tokens": 10**6}, 3.045),
        ("moonshot-cn", "kimi-k2.6", FRIDAY, {"input_tokens": 10**6, "cache_read_tokens": 10**6}, 7.6),
    ],
)
def test_what_calls_cost(book: str, model: str, moment: str, usage: dict[str, int], expected: float) -> None:
    """Written out by hand from the vendors' pages, one or more of each shape of price."""
    assert expected == pytest.approx(cost(book, model, moment, **usage), abs=1e-6)


def test_a_model_that_is_in_no_list_is_unknown() -> None:
    """Not nothing, and not what its neighbour costs."""
    prices = PricesAt(PriceBook(PricesConfig()), {"p": "volcengine"}, datetime.now(UTC).timestamp())

    assert prices.listed("p", "ep-20260101000000-abcde")[0].price is None


def test_every_name_that_accounts_have_is_in_a_list() -> None:
    """One that is misspelt would leave all models of the account without a price."""
    listed = {name.partition("/")[0] for name, _ in ROWS} | {provider.id for provider in providers}

    assert books() <= listed
