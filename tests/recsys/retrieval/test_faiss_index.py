"""Exact search finds the largest inner products of what is eligible, before and after it was saved."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest

from recsys.retrieval.faiss_index import FaissIndex
from tests.recsys.retrieval.vectors import clustered, recall, search


def test_exact_search_is_brute_force() -> None:
    factors, queries = clustered(700, 16, 1), clustered(20, 16, 2)
    found = search(FaissIndex.build(factors), queries, 50)
    assert (found.dtype, found.shape) == (np.int32, (20, 50))
    np.testing.assert_array_equal(found, np.argsort(-(queries @ factors.T), axis=1, kind="stable")[:, :50])


def test_rows_without_a_factor_are_not_in_the_index() -> None:
    factors = clustered(30, 4, 3)
    factors[[0, 7]] = 0
    index = FaissIndex.build(factors)
    assert len(index) == 28
    found = search(index, clustered(3, 4, 4), 30)
    assert (np.sort(found, axis=1)[:, :2] == -1).all()
    assert (found[:, 28:] == -1).all()
    assert not np.isin(found, [0, 7]).any()


def test_empty_index_gives_no_result() -> None:
    nothing = FaissIndex.build(np.zeros((5, 4), np.float32))
    assert search(nothing, np.ones((2, 4), np.float32), 3).tolist() == [[-1] * 3] * 2


def test_only_eligible_rows_are_found() -> None:
    factors, queries = clustered(900, 16, 1), clustered(20, 16, 3)
    for share in (0.9, 0.5, 0.1):
        eligible = np.random.default_rng(2).random(900) < share
        found = search(FaissIndex.build(factors), queries, 50, eligible)
        best = np.argsort(np.where(eligible, -(queries @ factors.T), np.inf), axis=1)[:, :50]
        assert eligible[found].all()
        assert recall(found, best) == 1


def test_each_search_has_its_own_eligible_rows_in_every_thread() -> None:
    """The selector is kept between searches, one a thread."""
    index = FaissIndex.build(clustered(700, 16, 1))
    queries = clustered(200, 16, 2)
    flags = np.random.default_rng(3).random((200, 700)) < 0.5

    def found(i: int) -> np.ndarray:
        return index.search(queries[i], 50, np.packbits(flags[i], bitorder="little"))[0]

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(found, range(200)))
    for i, rows in enumerate(together):
        assert flags[i][rows].all()
        np.testing.assert_array_equal(rows, found(i))


def test_index_of_another_kind_is_refused(tmp_path: Path) -> None:
    lists = faiss.IndexIVFFlat(faiss.IndexFlatIP(16), 16, 4, faiss.METRIC_INNER_PRODUCT)
    lists.train(clustered(400, 16, 1))
    for number, (index, kind) in enumerate([(faiss.IndexIDMap2(lists), "IndexIVFFlat"), (lists, "IndexIVFFlat")]):
        faiss.write_index(index, str(tmp_path / str(number)))
        with pytest.raises(RuntimeError, match=f"holds a {kind}, not the index of a bundle"):
            FaissIndex.load(tmp_path / str(number))


def test_saved_index_answers_as_before(tmp_path: Path) -> None:
    index, queries = FaissIndex.build(clustered(900, 16, 1)), clustered(20, 16, 6)
    index.save(tmp_path / "index.faiss")
    loaded = FaissIndex.load(tmp_path / "index.faiss")
    assert len(loaded) == 900
    np.testing.assert_array_equal(search(loaded, queries, 80), search(index, queries, 80))
