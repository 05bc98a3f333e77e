"""Lists by bands of length find nearly all that exact search finds, before and after they were saved."""

from pathlib import Path

import numpy as np
import pytest

from loadtest.invented_vectors import user_vectors
from recsys.retrieval import index
from recsys.retrieval.band_index import FOUND_OF, BandIndex
from recsys.retrieval.faiss_index import FaissIndex
from recsys.retrieval.index import build_index, load_index
from tests.recsys.retrieval.vectors import clustered, invented, recall, search


def best_of(queries: np.ndarray, factors: np.ndarray, k: int, eligible: np.ndarray | None = None) -> np.ndarray:
    product = queries @ factors.T
    if eligible is not None:
        product = np.where(eligible, product, -np.inf)
    return np.argsort(-product, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("d", [64, 128])
def test_95_of_100_of_what_exact_search_finds_are_found(d: int) -> None:
    """Of vectors as long as they are popular, where lists without bands find half (decision 0023)."""
    factors, tastes = invented(30_000, d)
    queries = user_vectors(factors, tastes.liked(100, seed=1))
    found = search(BandIndex.build(factors, seed=1), queries, 200)
    assert recall(found, best_of(queries, factors, 200)) >= 0.95


def test_products_are_those_of_the_vectors_best_first() -> None:
    factors, tastes = invented(6_000, 64)
    bands = BandIndex.build(factors, seed=1)
    for query in user_vectors(factors, tastes.liked(20, seed=1)):
        row, product = bands.search(query, 200, np.full(750, 255, np.uint8))
        assert (row.dtype, product.dtype, len(np.unique(row))) == (np.int32, np.float32, 200)
        assert (np.diff(product) <= 0).all()
        lengths = np.linalg.norm(factors[row], axis=1) * np.linalg.norm(query)
        error = (product - factors[row] @ query) / lengths
        assert np.sqrt(np.mean(error**2)) < 0.001
        assert np.abs(error).max() < 0.005


def test_where_all_is_wanted_all_is_found_and_the_rest_is_empty() -> None:
    factors = clustered(300, 8, 1)
    factors[[0, 7]] = 0
    bands = BandIndex.build(factors, seed=1)
    assert len(bands) == 298
    row, product = bands.search(clustered(1, 8, 2)[0], 310, np.full(38, 255, np.uint8))
    assert np.sort(row[:298]).tolist() == [i for i in range(300) if i not in (0, 7)]
    assert (row[298:] == -1).all()
    assert (product[298:] == 0).all()


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.01])
def test_only_eligible_rows_are_found_and_more_lists_are_read_where_they_are_few(share: float) -> None:
    factors, tastes = invented(30_000, 32)
    queries = user_vectors(factors, tastes.liked(40, seed=1))
    eligible = np.random.default_rng(4).random(30_000) < share
    found = search(BandIndex.build(factors, seed=1), queries, 100, eligible)
    assert eligible[found].all()
    assert recall(found, best_of(queries, factors, 100, eligible)) >= 0.95


def test_a_query_of_zeros_finds_something_or_nothing_but_does_not_fail() -> None:
    row, product = BandIndex.build(clustered(300, 8, 1), seed=1).search(
        np.zeros(8, np.float32), 5, np.full(38, 255, np.uint8)
    )
    assert (row < 300).all()
    assert (product == 0).all()


def test_sums_of_the_widest_vectors_do_not_overflow() -> None:
    factors = np.full((50, 1_024), 3.0, np.float32) * np.linspace(1, 2, 50, dtype=np.float32)[:, None]
    row, product = BandIndex.build(factors, seed=1).search(
        np.full(1_024, 5.0, np.float32), 50, np.full(7, 255, np.uint8)
    )
    assert row.tolist() == list(range(49, -1, -1))
    np.testing.assert_allclose(product, factors[row].sum(axis=1) * 5, rtol=0.002)


def test_same_seed_gives_the_same_lists() -> None:
    factors, queries = clustered(5_000, 16, 1), clustered(20, 16, 5)
    first, again = (search(BandIndex.build(factors, seed=4), queries, 100) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_saved_lists_answer_as_before(tmp_path: Path) -> None:
    bands, queries = BandIndex.build(clustered(5_000, 16, 1), seed=1), clustered(20, 16, 6)
    bands.save(tmp_path / "index.faiss")
    loaded = load_index(tmp_path / "index.faiss")
    assert isinstance(loaded, BandIndex)
    assert (len(loaded), loaded.dimension, loaded.highest_row) == (5_000, 16, 4_999)
    np.testing.assert_array_equal(search(loaded, queries, 80), search(bands, queries, 80))


def test_mapped_lists_take_new_numbers_and_more_rows(tmp_path: Path) -> None:
    BandIndex.build(clustered(5_000, 16, 1), seed=1).save(tmp_path / "index.faiss")
    mapped = BandIndex.load(tmp_path / "index.faiss")
    row_of = np.random.default_rng(3).permutation(5_003).astype(np.int32)
    more = np.concatenate([clustered(3, 16, 9), np.zeros((1, 16), np.float32)])
    extended = mapped.extended(row_of[:5_000], more, np.append(row_of[5_000:], 5_003).astype(np.int32))
    queries = clustered(20, 16, 3)
    before, after = search(mapped, queries, 30), search(extended, queries, 40)
    assert (len(extended), extended.highest_row) == (5_003, 5_002)
    assert extended.codes.code is mapped.codes.code
    for old, new in zip(before, after, strict=True):
        kept = [row for row in new.tolist() if row not in row_of[5_000:].tolist()]
        assert set(row_of[old].tolist()[:20]) <= set(kept)
    assert np.isin(row_of[5_000:], search(extended, clustered(3, 16, 9), 500)).all()
    np.testing.assert_array_equal(before, search(mapped, queries, 30))


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("reach", lambda array: array[1:], r"index\.reach\.npy is float32"),
        ("code", lambda array: array.astype(np.int16), r"index\.code\.npy is int16"),
        ("code", lambda array: array.reshape(-1), r"index\.code\.npy is int8"),
        ("start", lambda array: array[::-1].copy(), r"index\.start\.npy and .*row\.npy do not divide"),
        ("row", lambda array: array - 5_000, r"do not divide"),
    ],
)
def test_parts_that_do_not_fit_are_refused(part: str, change: object, said: str, tmp_path: Path) -> None:
    BandIndex.build(clustered(5_000, 16, 1), seed=1).save(tmp_path / "index.faiss")
    path = tmp_path / f"index.{part}.npy"
    np.save(path, change(np.load(path)))  # type: ignore[operator]
    with pytest.raises(ValueError, match=said):
        load_index(tmp_path / "index.faiss")


def test_a_part_that_is_missing_is_an_error(tmp_path: Path) -> None:
    BandIndex.build(clustered(500, 16, 1), seed=1).save(tmp_path / "index.faiss")
    (tmp_path / "index.scale.npy").unlink()
    with pytest.raises(FileNotFoundError, match="scale"):
        load_index(tmp_path / "index.faiss")


def test_the_size_of_the_catalogue_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "EXACT_MAX", 1_000)
    few = np.zeros((5_000, 16), np.float32)
    few[:1_000] = clustered(1_000, 16, 1)
    assert isinstance(build_index(few, seed=1), FaissIndex)
    assert isinstance(build_index(clustered(1_001, 16, 1), seed=1), BandIndex)


def test_lists_reach_as_far_as_the_queries_of_training_need() -> None:
    """Vectors in long thin clusters, as real ones are, promise less by their mean deviation than they hold."""
    rng = np.random.default_rng(3)
    factors = clustered(30_000, 32, 1)
    factors += (rng.standard_t(2, size=(30_000, 1)) * rng.normal(size=(1, 32))).astype(np.float32) * 0.2
    queries, others = (factors[rng.integers(0, 30_000, n)] + clustered(n, 32, 8 + n) for n in (128, 100))
    plain, measured = BandIndex.build(factors, seed=1), BandIndex.build(factors, seed=1, queries=queries)
    exact = best_of(others, factors, FOUND_OF)
    assert recall(search(plain, others, FOUND_OF), exact) < 0.97
    assert recall(search(measured, others, FOUND_OF), exact) > 0.98


def test_items_that_no_list_holds_do_not_make_lists_reach_further() -> None:
    factors = -np.abs(clustered(3_000, 16, 1))
    queries = np.abs(clustered(50, 16, 2))  # all products are below 0, that of an item never seen is 0
    seen = BandIndex.build(factors, seed=1, queries=queries)
    unseen = np.concatenate([factors, np.zeros((2_000, 16), np.float32)])
    np.testing.assert_array_equal(BandIndex.build(unseen, seed=1, queries=queries).reach, seen.reach)


def test_queries_that_are_nothing_change_nothing() -> None:
    factors = clustered(3_000, 16, 1)
    plain = BandIndex.build(factors, seed=1)
    for queries in (np.zeros((5, 16), np.float32), np.zeros((0, 16), np.float32)):
        np.testing.assert_array_equal(BandIndex.build(factors, seed=1, queries=queries).reach, plain.reach)
