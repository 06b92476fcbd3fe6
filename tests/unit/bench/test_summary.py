"""Percentiles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.summary import Spread, percentile


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (1, 1), (50, 50), (50.1, 51), (99, 99), (100, 100)])
def test_percentile_is_nearest_rank(percent: float, expected: float) -> None:
    """The least value that at least so many percent of the values do not exceed."""
    assert expected == percentile(range(1, 101), percent)


def test_nothing_measured() -> None:
    """No values make a spread of zeros."""
    assert Spread(0.0, 0.0, 0.0, 0.0) == Spread.of([])


@given(st.lists(st.floats(0, 1e9), min_size=1))
def test_spread_is_of_measured_values(values: list[float]) -> None:
    """Each figure was measured, they ascend, and the last is the largest."""
    spread = Spread.of(values)
    figures = [spread.p50, spread.p90, spread.p99, spread.max]

    assert sorted(figures) == figures
    assert set(figures) <= set(values)
    assert max(values) == spread.max
