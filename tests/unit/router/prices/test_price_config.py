"""Price lists that are refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from polyroute.router.prices.config import PricesConfig

ROW = {"input": 1, "output": 2}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"p/m": {"input": -1, "output": 2}}, "out of range"),
        ({"p/m": {"input": "a", "output": 2}}, "not a decimal number"),
        ({"p/m": {"input": True, "output": 2}}, "is a number or a decimal string"),
        ({"p/m": {"input": "1e10", "output": 2}}, "out of range"),
        ({"p/m": {"input": 1}}, "output: needed where nothing but tokens is charged"),
        ({"p/m": {"currency": "CNY"}}, "input and output: needed where nothing but tokens is charged"),
        ({"p/m": {**ROW, "input": "0.0000000001"}}, "finer than a nano-dollar"),
        ({"p/m": {**ROW, "currency": "yuan"}}, "is not a currency such as CNY"),
        ({"p/m": {**ROW, "zone": "Mars/Base"}}, "not a time zone"),
        ({"p/m": {**ROW, "effective_from": "2026-10-01T00:00"}}, "a moment needs its offset"),
        ({"m": ROW}, "not of the form provider/model"),
        ({"p*/m": ROW}, "not of the form provider/model"),
        ({"p/m": [ROW, ROW]}, "two rows come into effect at the same time"),
        ({"p/m": {**ROW, "tiers": [{"above": 1, "input": 2, "output": 4, "cache_read": 1}]}}, "differs in cache_read"),
        (
            {
                "p/m": {
                    **ROW,
                    "tiers": [{"above": 1, "input": 2, "output": 4}],
                    "windows": [{"start": "09:00", "end": "10:00", **ROW}],
                }
            },
            "must have the bounds of the row's own tiers",
        ),
    ],
)
def test_nonsense_is_refused(rows: dict[str, Any], words: str) -> None:
    """With words that say what is wrong."""
    with pytest.raises(ValidationError, match=words):
        PricesConfig.model_validate({"models": rows})


def test_days_and_moments_stay_what_they_are() -> None:
    """A moment at midnight is no day: its offset counts."""
    config = PricesConfig.model_validate({"models": {"p/m": {**ROW, "effective_from": "2026-10-01T00:00+08:00"}}})

    assert "2026-10-01T00:00:00+08:00" == config.models["p/m"][0].effective_from.isoformat()  # type: ignore[union-attr]
    assert config == PricesConfig.model_validate(config.model_dump(mode="json", exclude_defaults=True))
