"""Deployments of a model beside each other: outliers, slow ones, and how many may go."""

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from polyroute.router.health.ejection import allowance, ejected, outliers, slowness


def peers(*failures: float, calls: int = 100) -> dict[str, tuple[int, float]]:
    return {f"d{place}": (calls, bad) for place, bad in enumerate(failures)}


def test_an_outlier() -> None:
    """One that fails far more than its peers is found though it fails less than half."""
    assert {"d5": 0.7} == outliers(peers(1, 2, 1, 0, 2, 30))


def test_a_bad_day_for_all() -> None:
    """Where all fail alike, nobody is an outlier."""
    assert {} == outliers(peers(40, 41, 39, 40, 42, 41))


@pytest.mark.parametrize(("failures", "calls"), [((0, 0, 0, 40), 100), ((0, 0, 0, 0, 0, 40), 99)])
def test_too_little_to_compare(failures: tuple[float, ...], calls: int) -> None:
    """Five peers with a hundred calls each are needed, or the spread means nothing."""
    assert {} == outliers(peers(*failures, calls=calls))


@pytest.mark.parametrize(("members", "most"), [(1, 0), (2, 1), (3, 1), (4, 2), (9, 4)])
def test_half_at_most(members: int, most: int) -> None:
    """The others must be able to bear the traffic."""
    assert most == allowance(members)


def test_the_worst_go() -> None:
    """When more are bad than may go, the ones that fail most do."""
    assert {"b", "d"} == ejected([("a", 0.6), ("b", 0.1), ("c", 0.5), ("d", 0.2)], 4)


@seed(4)
@given(st.lists(st.floats(0, 1), max_size=12), st.integers(0, 12))
def test_never_more_than_half(rates: list[float], healthy: int) -> None:
    """However many are bad."""
    bad = [(f"d{place}", rate) for place, rate in enumerate(rates)]

    assert len(ejected(bad, len(bad) + healthy)) <= (len(bad) + healthy) / 2


def test_slow_ones_keep_a_share() -> None:
    """Six times the usual time is twice what is borne, and so half of the traffic."""
    assert {"c": 0.5} == slowness({"a": (20, 100.0), "b": (20, 100.0), "c": (20, 600.0)})


def test_the_slowest_keep_a_tenth() -> None:
    """No latency ejects."""
    assert {"c": 0.1} == slowness({"a": (20, 100.0), "b": (20, 100.0), "c": (20, 9e9)})


@pytest.mark.parametrize("count", [0, 19])
def test_few_values_are_not_compared(count: int) -> None:
    """Twenty attempts are needed to be called slow."""
    assert {} == slowness({"a": (50, 100.0), "b": (50, 100.0), "c": (count, 900.0)})
