"""Percentiles from counts by size."""

from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from polyroute.metrics.sketch import LARGEST, SMALLEST, Sketch, step_of

SHARES = (0.5, 0.9, 0.99)
VALUES = st.lists(st.floats(SMALLEST, LARGEST), min_size=1, max_size=300)


def sketch_of(values: list[float]) -> Sketch:
    sketch = Sketch()
    for value in values:
        sketch.add(step_of(value))
    return sketch


@given(VALUES)
def test_within_two_percent(values: list[float]) -> None:
    """Every percentile is within 2 % of the true one, whatever the values are."""
    true = [sorted(values)[ceil(share * len(values)) - 1] for share in SHARES]
    found = sketch_of(values).percentiles(SHARES)

    assert all(abs(mine - its) <= 0.02 * its for mine, its in zip(found, true, strict=True))


@given(VALUES, VALUES)
def test_subtracting_undoes_adding(kept: list[float], gone: list[float]) -> None:
    """What was added and taken back leaves nothing behind."""
    both = sketch_of(kept + gone)
    both.subtract(sketch_of(gone))

    assert sketch_of(kept).steps == both.steps
    assert len(kept) == both.count


@given(st.lists(st.floats(0, 1e300)))
def test_bounded(values: list[float]) -> None:
    """Values beyond both ends share the outermost steps, so that there are never more than about 930."""
    steps = {step_of(value) for value in values}

    assert steps <= set(range(step_of(0), step_of(1e300) + 1))
    assert step_of(1e300) - step_of(0) < 930
