"""The spectral embedding beside its definition, computed densely."""

import numpy as np
import pytest

from recsys.retrieval.spectral import Spectral, spectral_vectors


@pytest.fixture(scope="module")
def taken() -> np.ndarray:
    """Who took what, bool [users, items]; one item that nobody took."""
    rng = np.random.default_rng(1)
    return (rng.random((60, 31)) < np.linspace(0.5, 0.05, 31)) & (np.arange(31) < 30)


def test_score_is_that_of_the_low_pass_filter(taken: np.ndarray) -> None:
    """For a user of training: the row of U^1/2 R~ V V^T I^1/2, with V the largest right singular vectors of R~."""
    d = 6
    user, item = np.nonzero(taken)
    fitted = Spectral.fit(user.astype(np.int32), item.astype(np.int32), 31, d=d, seed=1)
    of_user, of_item = np.maximum(taken.sum(axis=1), 1), np.maximum(taken.sum(axis=0), 1)
    scaled = taken / np.sqrt(of_user)[:, None] / np.sqrt(of_item)
    right = np.linalg.svd(scaled)[2][:d].T
    expected = (taken / np.sqrt(of_item)) @ right @ right.T * np.sqrt(of_item)
    history = np.full((60, 31), -1, np.int32)
    for row in range(60):
        own = np.flatnonzero(taken[row])
        history[row, : len(own)] = own
    vectors = spectral_vectors(fitted.vector, fitted.count, history, (history >= 0).astype(np.float32))
    np.testing.assert_allclose(vectors @ fitted.vector.T, expected, atol=2e-4)
    assert not fitted.vector[30].any()
    assert fitted.count[30] == 1


def test_same_seed_gives_the_same_bits_and_repetitions_count_once(taken: np.ndarray) -> None:
    user, item = (one.astype(np.int32) for one in np.nonzero(taken))
    once, again = (Spectral.fit(user, item, 31, d=4, seed=2) for _ in range(2))
    twice = Spectral.fit(np.repeat(user, 2), np.repeat(item, 2), 31, d=4, seed=2)
    assert once.vector.tobytes() == again.vector.tobytes() == twice.vector.tobytes()


def test_fewer_users_than_dimensions_leave_the_rest_empty() -> None:
    fitted = Spectral.fit(np.array([0, 0, 1], np.int32), np.array([0, 1, 1], np.int32), 5, d=8, seed=1)
    assert fitted.vector.shape == (5, 8)
    assert not fitted.vector[:, 2:].any()


def test_user_without_a_positive_has_no_vector_and_rows_do_not_depend_on_one_another() -> None:
    rng = np.random.default_rng(3)
    vector, count = rng.standard_normal((9, 4)).astype(np.float32), np.arange(1, 10, dtype=np.float32)
    item = rng.integers(0, 9, (5, 3)).astype(np.int32)
    weight = np.ones((5, 3), np.float32)
    weight[2] = 0
    together = spectral_vectors(vector, count, item, weight)
    assert not together[2].any()
    for row in range(5):
        alone = spectral_vectors(vector, count, item[row : row + 1], weight[row : row + 1])
        assert alone[0].tobytes() == together[row].tobytes()
