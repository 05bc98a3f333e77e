"""Every value has a bin, whatever it is; shares of a request's cells add up to 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.monitoring.bins import ABOVE, BELOW, DEFAULT, MISSING, Bins, one_of

VALUES = np.array([1, 2, 3, 4, 5, 6, 7], np.float64)


def named(bins: Bins, value: float) -> str:
    return bins.names[int(bins.place(np.array([value], np.float64))[0])]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.nan, MISSING), (np.inf, MISSING), (-np.inf, MISSING), (0.0, DEFAULT), (1.0, "1 to 2"), (7.0, "6 to 7"),
        (0.9, "1 to 2"), (-0.6, BELOW), (8.4, "6 to 7"), (8.6, ABOVE), (1e30, ABOVE), (-1e30, BELOW),
    ],
)  # fmt: skip
def test_value_is_placed_by_the_reference(value: float, name: str) -> None:
    assert named(Bins.of(VALUES, 0.0), value) == name


def test_number_that_is_always_at_its_default_makes_everything_else_new() -> None:
    bins = Bins.of(np.zeros(9), 0.0)
    assert [named(bins, one) for one in (0.0, 0.1, -5.0, np.nan)] == [DEFAULT, ABOVE, ABOVE, MISSING]


def test_constant_has_one_bin() -> None:
    bins = Bins.of(np.full(9, 3.0), 0.0)
    assert [named(bins, one) for one in (3.0, 2.9, 3.1, 0.0)] == ["3", BELOW, ABOVE, DEFAULT]


def test_float32_of_a_default_that_has_no_such_value_is_still_the_default() -> None:
    assert named(Bins.of(VALUES, 0.1), float(np.float32(0.1))) == DEFAULT


@given(st.lists(st.floats(width=32), min_size=1, max_size=40), st.lists(st.floats(width=32), min_size=1, max_size=40))
def test_shares_of_any_values_among_any_bins_add_up_to_one(reference: list[float], live: list[float]) -> None:
    bins = Bins.of(np.array(reference, np.float64), 0.0)
    shares = bins.shares(np.array(live, np.float64), np.array([0, len(live)]))
    assert shares.shape == (1, len(bins.names))
    np.testing.assert_allclose(shares.sum(), 1)


def test_request_without_cells_says_nothing() -> None:
    shares = Bins.of(VALUES, 0.0).shares(np.array([1.0, 0.0]), np.array([0, 2, 2]))
    np.testing.assert_allclose(shares[0].sum(), 1)
    assert np.isnan(shares[1]).all()


def test_place_below_zero_says_nothing() -> None:
    np.testing.assert_array_equal(one_of(np.array([1, -1]), 2), [[0, 1], [np.nan, np.nan]])
