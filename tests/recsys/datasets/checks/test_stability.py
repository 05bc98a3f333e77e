"""The population stability index against its formula, and its noise against chance."""

import numpy as np
import pytest

from recsys.datasets.checks.stability import independent, stability


def test_index_is_that_of_the_formula() -> None:
    found = stability(np.array([6000, 4000]), np.array([3000, 7000]), (10_000, 10_000))
    assert found.index == pytest.approx(-0.3 * np.log(3 / 6) + 0.3 * np.log(7 / 4), rel=1e-3)
    assert (found.earlier, found.later) == pytest.approx((0.4, 0.7) if found.moved else (0.6, 0.3), rel=1e-3)
    assert found.drifted


def test_equal_shares_of_unequal_counts_have_not_moved() -> None:
    assert stability(np.array([600, 400]), np.array([6000, 4000]), (1000, 10_000)).index < 1e-4


def test_bin_that_was_empty_gives_a_finite_index() -> None:
    found = stability(np.array([1000, 0, 0]), np.array([500, 500, 0]), (1000, 1000))
    assert np.isfinite(found.index)
    assert found.drifted


def test_one_bin_cannot_move() -> None:
    assert not stability(np.array([0, 9]), np.array([0, 4000]), (9, 4000)).drifted


def test_chance_passes_the_noise_about_as_often_as_it_says() -> None:
    rng, p = np.random.default_rng(3), np.full(24, 1 / 24)
    drawn = [(rng.multinomial(800, p), rng.multinomial(1200, p)) for _ in range(4000)]
    over = sum(found.index > found.noise for found in (stability(*pair, (800, 1200)) for pair in drawn))
    assert over <= 14  # 4 are expected


def test_users_of_equal_weight_are_as_many_observations_and_a_heavy_one_hardly_counts() -> None:
    assert independent(np.repeat(np.arange(50), 7)) == pytest.approx(50)
    assert independent(np.append(np.repeat(np.arange(50), 7), np.full(10_000, 50))) < 1.1
    assert independent(np.empty(0, np.int64)) == 0
