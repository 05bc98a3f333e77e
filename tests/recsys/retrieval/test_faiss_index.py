"""The index finds the largest inner products of what is eligible, before and after it was saved."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest

from loadtest.invented_vectors import Tastes, user_vectors
from recsys.retrieval import faiss_index
from recsys.retrieval.faiss_index import FaissIndex


def clustered(n: int, d: int, seed: int) -> np.ndarray:
    """Rows around 40 centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(40, d))
    return (centres[rng.integers(40, size=n)] + rng.normal(0, 0.3, size=(n, d))).astype(np.float32)


def invented(n: int, d: int) -> tuple[np.ndarray, Tastes]:
    """Vectors like those of ALS, as long as they are popular."""
    tastes = Tastes.draw(n, seed=1)
    return tastes.vectors(d, seed=1), tastes


def recall(found: np.ndarray, best: np.ndarray) -> float:
    """The share of each query's best rows that was found, in the mean."""
    return float(
        np.mean([len(np.intersect1d(one, other)) / len(other) for one, other in zip(found, best, strict=True)])
    )


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


@pytest.mark.parametrize(("rows", "least"), [(900, 1.0), (5_000, 0.95)])
def test_only_eligible_rows_are_found(inverted: np.ndarray, rows: int, least: float) -> None:
    factors, queries = inverted[:rows], clustered(20, 16, 3)
    index = FaissIndex.build(factors, seed=1)
    for share in (0.9, 0.5, 0.1):
        eligible = np.random.default_rng(2).random(rows) < share
        found = search(index, queries, 50, eligible)
        assert eligible[found].all()
        best = np.argsort(np.where(eligible, -(queries @ factors.T), np.inf), axis=1)[:, :50]
        assert recall(found, best) >= least


def test_where_few_rows_are_eligible_all_of_them_are_found(inverted: np.ndarray) -> None:
    index = FaissIndex.build(inverted, seed=1)
    eligible = np.zeros(5_000, bool)
    eligible[7::500] = True
    for one in search(index, clustered(20, 16, 3), 50, eligible):
        assert np.sort(one[:10]).tolist() == list(range(7, 5_000, 500))
        assert (one[10:] == -1).all()


def test_a_share_says_how_many_more_lists_are_read() -> None:
    factors, tastes = invented(30_000, 32)
    index = FaissIndex.build(factors, seed=1)
    eligible = np.random.default_rng(4).random(30_000) < 0.1
    bits, queries = np.packbits(eligible, bitorder="little"), user_vectors(factors, tastes.liked(40, seed=1))
    best = np.argsort(np.where(eligible, -(queries @ factors.T), np.inf), axis=1)[:, :200]
    told, untold = (
        recall(np.array([index.search(one, 200, bits, share=share)[0] for one in queries]), best)
        for share in (0.1, 1.0)
    )
    assert told >= 0.99
    assert told > untold


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


@pytest.mark.parametrize("d", [64, 128])
def test_inverted_lists_find_95_of_100_of_what_exact_search_finds(d: int) -> None:
    """Of vectors as long as they are popular, where lists without bands find half (decision 0023)."""
    factors, tastes = invented(30_000, d)
    queries = user_vectors(factors, tastes.liked(100, seed=1))
    index = FaissIndex.build(factors, seed=1)
    assert isinstance(index._index, faiss.IndexIVFScalarQuantizer)
    exact = FaissIndex.build(factors, seed=1, exact_max=30_000)
    assert recall(search(index, queries, 200), search(exact, queries, 200)) >= 0.95


def test_a_query_is_answered_alike_wherever_it_stands_in_a_batch() -> None:
    factors, tastes = invented(6_000, 64)
    index = FaissIndex.build(factors, seed=1, exact_max=0)
    queries = user_vectors(factors, tastes.liked(7, seed=1))
    bits = np.full(1_000, 255, np.uint8)
    for place in range(7):
        row, product = index.search(queries[place], 200, bits)
        again, same = index.search(queries[place].copy(), 200, bits)
        assert row.tolist() == again.tolist()
        assert product.tobytes() == same.tobytes()


def test_index_of_a_bundle_of_before_is_read_and_searched(tmp_path: Path) -> None:
    """Inverted lists of 32-bit floats behind a map of rows, as FaissIndex wrote them until decision 0023."""
    factors = clustered(5_000, 16, 1)
    core = faiss.IndexIVFFlat(faiss.IndexFlatIP(16), 16, 64, faiss.METRIC_INNER_PRODUCT)
    core.nprobe = 64
    core.train(factors)
    old = faiss.IndexIDMap2(core)
    old.add_with_ids(factors, np.arange(5_000, dtype=np.int64))
    faiss.write_index(old, str(tmp_path / "old"))
    queries = clustered(20, 16, 3)
    found = search(FaissIndex.load(tmp_path / "old"), queries, 50)
    np.testing.assert_array_equal(found, np.argsort(-(queries @ factors.T), axis=1, kind="stable")[:, :50])


def test_inverted_lists_without_their_reach_are_refused(inverted: np.ndarray, tmp_path: Path) -> None:
    index = FaissIndex.build(inverted, seed=1)
    index.save(tmp_path / "index.faiss")
    reach = np.load(tmp_path / "index.reach.npy")
    np.save(tmp_path / "index.reach.npy", reach[1:])
    with pytest.raises(RuntimeError, match=r"index\.reach\.npy is float32"):
        FaissIndex.load(tmp_path / "index.faiss")
    (tmp_path / "index.reach.npy").unlink()
    with pytest.raises(RuntimeError, match="not the index of a bundle"):
        FaissIndex.load(tmp_path / "index.faiss")


def test_mapped_inverted_lists_take_new_numbers_and_more_rows(inverted: np.ndarray, tmp_path: Path) -> None:
    FaissIndex.build(inverted, seed=1).save(tmp_path / "index.faiss")
    mapped = FaissIndex.load(tmp_path / "index.faiss")
    row_of = np.random.default_rng(3).permutation(5_003).astype(np.int32)
    extended = mapped.extended(row_of[:5_000], clustered(3, 16, 9), row_of[5_000:])
    queries = clustered(20, 16, 3)
    before, after = search(mapped, queries, 30), search(extended, queries, 40)
    assert len(extended) == 5_003
    assert extended.highest_row == 5_002
    for old, new in zip(before, after, strict=True):
        kept = [row for row in new.tolist() if row not in row_of[5_000:].tolist()]
        assert kept[:30] == row_of[old].tolist()
    assert np.isin(row_of[5_000:], search(extended, clustered(3, 16, 9), 500)).all()
    np.testing.assert_array_equal(before, search(mapped, queries, 30))


def test_same_seed_gives_the_same_lists(inverted: np.ndarray) -> None:
    queries = clustered(20, 16, 5)
    first, again = (search(FaissIndex.build(inverted, seed=4), queries, 100) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_saved_index_answers_as_before(inverted: np.ndarray, tmp_path: Path) -> None:
    queries = clustered(20, 16, 6)
    for name, factors in (("exact", inverted[:900]), ("inverted", inverted)):
        index = FaissIndex.build(factors, seed=1)
        index.save(tmp_path / f"{name}.faiss")
        loaded = FaissIndex.load(tmp_path / f"{name}.faiss")
        assert len(loaded) == len(factors)
        np.testing.assert_array_equal(search(loaded, queries, 80), search(index, queries, 80))
