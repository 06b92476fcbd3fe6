"""Price lists of other people."""

import json
from typing import Any

import pytest

from polyroute.router.prices.config import PricesConfig
from polyroute.router.prices.reading import read_rows

PER_TOKEN: dict[str, Any] = {
    "sample_spec": {"mode": "one of chat, embedding"},
    "east/large": {
        "input_cost_per_token": 4e-07,
        "output_cost_per_token": 1.2e-06,
        "cache_read_input_token_cost": 7.25e-08,
        "litellm_provider": "east",
        "source": "https://east/prices",
    },
    "mini": {"input_cost_per_token": 0, "output_cost_per_token": 0, "litellm_provider": "west"},
    "west/long": {
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 2e-06,
        "input_cost_per_token_above_200k_tokens": 2e-06,
        "output_cost_per_token_above_200k_tokens": 4e-06,
        "input_cost_per_token_above_128k_tokens": 1.5e-06,
        "litellm_provider": "west",
        "off_peak_pricing": {"windows": []},
    },
    "east/banded": {
        "tiered_pricing": [
            {"range": [0, 32000.0], "input_cost_per_token": 1e-06, "output_cost_per_token": 5e-06},
            {"range": [32000.0, 128000.0], "input_cost_per_token": 2e-06, "output_cost_per_token": 9e-06},
        ],
        "litellm_provider": "east",
    },
    "picture": {"output_cost_per_image": 0.04, "litellm_provider": "east"},
}


def test_figures_per_token_become_figures_per_million() -> None:
    """Exactly, whatever the floats look like; free is free."""
    rows = read_rows(json.dumps(PER_TOKEN)).rows

    assert [{"input": "0.4", "output": "1.2", "cache_read": "0.0725", "source": "https://east/prices"}] == rows[
        "east/large"
    ]
    assert [{"input": "0", "output": "0"}] == rows["west/mini"]


def test_both_ways_of_writing_tiers() -> None:
    """By a bound in the name, where a figure that is left out stays as it was; and by ranges."""
    rows = read_rows(json.dumps(PER_TOKEN)).rows

    assert [
        {"input": "1.5", "output": "2", "above": 128_000},
        {"input": "2", "output": "4", "above": 200_000},
    ] == rows["west/long"][0]["tiers"]
    assert {"input": "1", "output": "5", "tiers": [{"input": "2", "output": "9", "above": 32_000}]} == rows[
        "east/banded"
    ][0]


def test_what_is_not_taken_is_told() -> None:
    """Entries without a price per token are counted; prices by the hour are named."""
    read = read_rows(json.dumps(PER_TOKEN))

    assert (2, ("west/long",)) == (read.skipped, read.partial)
    assert PricesConfig.model_validate({"models": read.rows})


def test_a_table() -> None:
    """Names in one column or in two; empty cells say nothing; several rows of a name are kept."""
    text = """provider, model, currency, input, output, cache_read, effective_from
east, large, CNY, 0.8, 2, , 2026-10-01
east, large, CNY, 0.9, 2.5, 0.1, 2026-12-01
"""
    rows = read_rows(text).rows

    assert ["2026-10-01", "2026-12-01"] == [row["effective_from"] for row in rows["east/large"]]
    assert "cache_read" not in rows["east/large"][0]
    assert ["east/large"] == list(read_rows("model,input,output\neast/large,1,2\n").rows)
    assert PricesConfig.model_validate({"models": rows})


def test_a_section_of_the_configuration_as_yaml_and_as_json() -> None:
    """With its headings or without."""
    expected = {"east/large": [{"input": 1, "output": 2}]}

    for text in (
        "prices: {models: {east/large: {input: 1, output: 2}}}",
        "models: {east/large: [{input: 1, output: 2}]}",
        "east/large: {input: 1, output: 2}",
        '{"east/large": {"input": 1, "output": 2}}',
    ):
        assert expected == read_rows(text).rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no price list"),
        ("just words", "no price list"),
        ("[1, 2]", "no price list"),
        ("{", "Expecting property name"),
        ("a: [", "neither JSON, nor YAML"),
        ("model,price\na/b,1\n", "unknown column 'price'"),
    ],
)
def test_anything_else_is_refused(text: str, words: str) -> None:
    """It says what was looked for."""
    with pytest.raises(ValueError, match=words):
        read_rows(text)
