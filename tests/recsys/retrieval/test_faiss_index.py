"""The index finds the largest inner products of what is eligible, before and after it was saved."""

from concurrent.futures import ThreadPoolExecutor
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


def search(index: FaissIndex, queries: np.ndarray, k: int, eligible: np.ndarray | None = None) -> np.ndarray:
    """One search a query. eligible: bool [N], all items where None."""
    flags = np.ones(1 << 15, bool) if eligible is None else eligible
    bits = np.packbits(flags, bitorder="little")
    return np.array([index.search(query, k, bits)[0] for query in queries], np.int32).reshape(-1, k)


@pytest.fixture
def inverted(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """5,000 rows that are too many for exact search."""
    monkeypatch.setattr(faiss_index, "EXACT_MAX", 1_000)
    return clustered(5_000, 16, 1)


def test_exact_search_is_brute_force() -> None:
    factors, queries = clustered(700, 16, 1), clustered(20, 16, 2)
    found = search(FaissIndex.build(factors, seed=1), queries, 50)
    assert (found.dtype, found.shape) == (np.int32, (20, 50))
    np.testing.assert_array_equal(found, np.argsort(-(queries @ factors.T), axis=1, kind="stable")[:, :50])


def test_rows_without_a_factor_are_not_in_the_index() -> None:
    factors = clustered(30, 4, 3)
    factors[[0, 7]] = 0
    index = FaissIndex.build(factors, seed=1)
    assert len(index) == 28
    found = search(index, clustered(3, 4, 4), 30)
    assert (np.sort(found, axis=1)[:, :2] == -1).all()
    assert (found[:, 28:] == -1).all()
    assert not np.isin(found, [0, 7]).any()


def test_empty_index_gives_no_result() -> None:
    nothing = FaissIndex.build(np.zeros((5, 4), np.float32), seed=1)
    assert search(nothing, np.ones((2, 4), np.float32), 3).tolist() == [[-1] * 3] * 2


@pytest.mark.parametrize("rows", [900, 5_000])
def test_only_eligible_rows_are_found(inverted: np.ndarray, rows: int) -> None:
    factors, queries = inverted[:rows], clustered(20, 16, 3)
    index = FaissIndex.build(factors, seed=1)
    everything = search(index, queries, rows)
    for share in (0.9, 0.5, 0.01):
        eligible = np.random.default_rng(2).random(rows) < share
        expected = [[row for row in one if row >= 0 and eligible[row]] for one in everything.tolist()]
        for found, best in zip(search(index, queries, 100, eligible), expected, strict=True):
            assert found[found >= 0].tolist() == best[:100]


def test_each_search_has_its_own_eligible_rows_in_every_thread() -> None:
    """The selector is kept between searches, one a thread."""
    index = FaissIndex.build(clustered(700, 16, 1), seed=1)
    queries = clustered(200, 16, 2)
    flags = np.random.default_rng(3).random((200, 700)) < 0.5

    def found(i: int) -> np.ndarray:
        return index.search(queries[i], 50, np.packbits(flags[i], bitorder="little"))[0]

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(found, range(200)))
    for i, rows in enumerate(together):
        assert flags[i][rows].all()
        np.testing.assert_array_equal(rows, found(i))


def test_inverted_lists_find_nine_of_ten_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_index, "EXACT_MAX", 1_000)
    factors, queries = clustered(20_000, 16, 1), clustered(50, 16, 1)
    index = FaissIndex.build(factors, seed=1)
    assert isinstance(faiss.downcast_index(index._index.index), faiss.IndexIVFFlat)
    best = np.argsort(-(queries @ factors.T), axis=1)[:, :200]
    found = search(index, queries, 200)
    recall = np.mean([len(np.intersect1d(one, other)) / 200 for one, other in zip(found, best, strict=True)])
    assert recall >= 0.9


def test_same_seed_gives_the_same_lists(inverted: np.ndarray) -> None:
    queries = clustered(20, 16, 5)
    first, again = (search(FaissIndex.build(inverted, seed=4), queries, 100) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_saved_index_answers_as_before(inverted: np.ndarray, tmp_path: Path) -> None:
    queries = clustered(20, 16, 6)
    for name, factors in (("exact", inverted[:900]), ("inverted", inverted)):
        index = FaissIndex.build(factors, seed=1)
        index.save(tmp_path / name)
        loaded = FaissIndex.load(tmp_path / name)
        assert len(loaded) == len(factors)
        np.testing.assert_array_equal(search(loaded, queries, 80), search(index, queries, 80))
