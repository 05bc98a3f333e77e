"""Counts by upper bound are those of the values, however they were handed over."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.histogram import INFINITY, Histogram

BOUNDS = (0.25, 1.0, 10.0)
values = st.lists(st.floats(0, 100, width=32) | st.sampled_from(BOUNDS), max_size=30)


@given(st.lists(values, max_size=5))
def test_counts_are_those_of_all_values_at_or_below_each_bound(batches: list[list[float]]) -> None:
    histogram = Histogram(BOUNDS)
    for batch in batches:
        histogram.observe(np.array(batch))
    together = [value for batch in batches for value in batch]
    expected = {f"{bound:g}": sum(value <= bound for value in together) for bound in BOUNDS}
    assert dict(histogram.at_most()) == {**expected, INFINITY: len(together)}
    assert histogram.sum == pytest.approx(sum(together))


@pytest.mark.parametrize("bounds", [(1.0, 1.0), (2.0, 1.0)])
def test_bounds_that_do_not_rise_are_refused(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="do not rise"):
        Histogram(bounds)
