"""Intervals that cover the truth as often as they say, on queries that come in users."""

import numpy as np
import pytest

from recsys.evaluation import bootstrap
from recsys.evaluation.bootstrap import FEW_USERS, few_users_hint, mean_interval, paired_difference


def clustered_queries(generator: np.random.Generator, n_users: int) -> tuple[np.ndarray, np.ndarray]:
    """Values with mean 0 whose users differ as much as queries of one user do; 1 to 9 queries a user."""
    user = np.repeat(np.arange(n_users), generator.integers(1, 10, n_users))
    return generator.normal(size=n_users)[user] + generator.normal(size=len(user)), user


def test_interval_covers_the_truth_about_as_often_as_its_level_says() -> None:
    generator = np.random.default_rng(7)
    covered = 0
    for simulation in range(400):
        values, user = clustered_queries(generator, 120)
        _, low, high = mean_interval(values, user, seed=simulation, resamples=600)
        covered += low <= 0 <= high
    assert 0.91 <= covered / 400 <= 0.98


def test_hint_stands_below_the_number_of_users_from_which_intervals_cover_as_they_say() -> None:
    assert few_users_hint(FEW_USERS) == ""
    assert few_users_hint(FEW_USERS - 1).startswith("Only 29 users: ")
    generator = np.random.default_rng(11)
    covered = 0
    for simulation in range(400):
        values, user = clustered_queries(generator, 5)
        _, low, high = mean_interval(values, user, seed=simulation, resamples=600)
        covered += low <= 0 <= high
    assert covered / 400 < 0.9


def test_treating_queries_as_independent_would_give_intervals_that_are_too_narrow() -> None:
    values, user = clustered_queries(np.random.default_rng(1), 300)
    by_user = mean_interval(values, user, seed=0)
    by_query = mean_interval(values, np.arange(len(values)), seed=0)
    assert by_user.high - by_user.low > 1.4 * (by_query.high - by_query.low)


def test_mean_is_over_queries_not_over_users() -> None:
    interval = mean_interval(np.array([1.0, 1.0, 1.0, 0.0]), np.array([5, 5, 5, 9]), seed=0)
    assert interval == (0.75, 0.0, 1.0)


def test_width_agrees_with_the_normal_approximation_when_users_are_alike_in_size() -> None:
    values = np.random.default_rng(2).normal(size=2000)
    interval = mean_interval(values, np.arange(2000), seed=3, resamples=4000)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(2000), rel=0.05)


def test_wider_level_gives_a_wider_interval() -> None:
    values, user = clustered_queries(np.random.default_rng(3), 50)
    narrow, wide = (mean_interval(values, user, seed=0, level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values, user = clustered_queries(np.random.default_rng(4), 50)
    assert mean_interval(values, user, seed=1) == mean_interval(values, user, seed=1)
    assert mean_interval(values, user, seed=1) != mean_interval(values, user, seed=2)


def test_block_size_does_not_change_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    values, user = clustered_queries(np.random.default_rng(5), 51)
    whole = mean_interval(values, user, seed=1, resamples=101)
    monkeypatch.setattr(bootstrap, "_BLOCK_DRAWS", 1)
    assert mean_interval(values, user, seed=1, resamples=101) == whole


def test_order_of_queries_and_user_numbers_do_not_matter() -> None:
    values, user = clustered_queries(np.random.default_rng(6), 50)
    order = np.random.default_rng(0).permutation(len(values))
    shuffled = mean_interval(values[order], user[order] * 1000 - 7, seed=1)
    assert shuffled == pytest.approx(mean_interval(values, user, seed=1), abs=1e-12)


def test_paired_difference_of_one_constant_step_has_no_spread() -> None:
    values, user = clustered_queries(np.random.default_rng(8), 50)
    assert paired_difference(values + 0.25, values, user, seed=0) == pytest.approx((0.25, 0.25, 0.25))


def test_paired_difference_sees_what_two_separate_intervals_cannot() -> None:
    generator = np.random.default_rng(9)
    values, user = clustered_queries(generator, 200)
    better = values + 0.05 + generator.normal(scale=0.1, size=len(values))
    assert paired_difference(better, values, user, seed=0).low > 0
    assert mean_interval(better, user, seed=0).low < mean_interval(values, user, seed=0).high


@pytest.mark.parametrize(
    ("values", "cluster", "settings", "message"),
    [
        ([1.0, 2.0], [1], {}, "equal length"),
        ([[1.0], [2.0]], [[1], [2]], {}, "equal length"),
        ([1.0, np.nan], [1, 2], {}, "value 1 is not finite"),
        ([], [], {}, "0 users give no interval"),
        ([1.0, 2.0], [4, 4], {}, "1 users give no interval"),
        ([1.0, 2.0], [1, 2], {"resamples": 0}, "resamples is 0"),
        ([1.0, 2.0], [1, 2], {"level": 1.0}, r"level 1\.0"),
    ],
)
def test_input_without_an_interval_is_refused(values: list, cluster: list, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_interval(np.array(values), np.array(cluster, np.int64), seed=0, **settings)


def test_pairs_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="must hold the same queries"):
        paired_difference(np.zeros(2), np.zeros(1), np.array([1, 2]), seed=0)
