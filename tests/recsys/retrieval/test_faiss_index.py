"""The index finds the largest inner products, one query or many, before and after it was saved."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from recsys.retrieval import faiss_index
from recsys.retrieval.faiss_index import FaissIndex


def clustered(n: int, d: int, seed: int) -> np.ndarray:
    """Rows around 40 centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(40, d))
    return (centres[rng.integers(40, size=n)] + rng.normal(0, 0.3, size=(n, d))).astype(np.float32)


@pytest.fixture
def inverted(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """5,000 rows that are too many for exact search."""
    monkeypatch.setattr(faiss_index, "EXACT_MAX", 1_000)
    return clustered(5_000, 16, 1)


def test_exact_search_is_brute_force() -> None:
    factors, queries = clustered(700, 16, 1), clustered(20, 16, 2)
    found = FaissIndex.build(factors, seed=1).search(queries, 50)
    assert (found.dtype, found.shape) == (np.int32, (20, 50))
    np.testing.assert_array_equal(found, np.argsort(-(queries @ factors.T), axis=1, kind="stable")[:, :50])


def test_rows_without_a_factor_are_not_in_the_index() -> None:
    factors = clustered(30, 4, 3)
    factors[[0, 7]] = 0
    index = FaissIndex.build(factors, seed=1)
    assert len(index) == 28
    found = index.search(clustered(3, 4, 4), 30)
    assert (np.sort(found, axis=1)[:, :2] == -1).all()
    assert (found[:, 28:] == -1).all()
    assert not np.isin(found, [0, 7]).any()


def test_no_row_and_no_query_give_no_result() -> None:
    nothing = FaissIndex.build(np.zeros((5, 4), np.float32), seed=1)
    assert nothing.search(np.ones((2, 4), np.float32), 3).tolist() == [[-1] * 3] * 2
    assert FaissIndex.build(clustered(9, 4, 1), seed=1).search(np.zeros((0, 4), np.float32), 3).shape == (0, 3)


def test_inverted_lists_find_nine_of_ten_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_index, "EXACT_MAX", 1_000)
    factors, queries = clustered(20_000, 16, 1), clustered(50, 16, 1)
    index = FaissIndex.build(factors, seed=1)
    assert isinstance(faiss.downcast_index(index._index.index), faiss.IndexIVFFlat)
    best = np.argsort(-(queries @ factors.T), axis=1)[:, :200]
    found = index.search(queries, 200)
    recall = np.mean([len(np.intersect1d(one, other)) / 200 for one, other in zip(found, best, strict=True)])
    assert recall >= 0.9


def test_same_seed_gives_the_same_lists(inverted: np.ndarray) -> None:
    queries = clustered(20, 16, 5)
    first, again = (FaissIndex.build(inverted, seed=4).search(queries, 100) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_saved_index_answers_as_before(inverted: np.ndarray, tmp_path: Path) -> None:
    queries = clustered(20, 16, 6)
    for name, factors in (("exact", inverted[:900]), ("inverted", inverted)):
        index = FaissIndex.build(factors, seed=1)
        index.save(tmp_path / name)
        loaded = FaissIndex.load(tmp_path / name)
        assert len(loaded) == len(factors)
        np.testing.assert_array_equal(loaded.search(queries, 80), index.search(queries, 80))


@pytest.mark.parametrize("rows", [900, 5_000])
def test_query_in_a_batch_is_answered_as_alone(inverted: np.ndarray, rows: int) -> None:
    index = FaissIndex.build(inverted[:rows], seed=1)
    queries = clustered(64, 16, 7)
    alone = np.concatenate([index.search(query[None], 256) for query in queries])
    for b in (2, 19, 20, 21, 33, 64):
        np.testing.assert_array_equal(index.search(queries[:b], 256), alone[:b])


def test_equal_items_stand_in_one_order_whatever_the_batch() -> None:
    factors = np.repeat(clustered(40, 8, 8), 10, axis=0)
    index = FaissIndex.build(factors, seed=1)
    queries = clustered(32, 8, 9)
    alone = np.concatenate([index.search(query[None], 128) for query in queries])
    np.testing.assert_array_equal(index.search(queries, 128), alone)
