"""Metrics against a slow reference in plain Python, and against answers worked out by hand."""

from math import log, log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.evaluation.metrics import (
    average_precision,
    coverage,
    exposure_gini,
    hit_rate,
    intra_list_diversity,
    miscalibration,
    ndcg_of_hits,
    novelty,
    recall_of_hits,
    reciprocal_rank,
)


def dcg(gains: list[float]) -> float:
    return sum(gain / log2(position + 2) for position, gain in enumerate(gains))


@st.composite
def judged_lists(draw: st.DrawFn) -> tuple[list[list[bool]], list[int]]:
    k = draw(st.integers(1, 12))
    hits = draw(st.lists(st.lists(st.booleans(), min_size=k, max_size=k), min_size=1, max_size=8))
    return hits, [max(1, sum(row) + draw(st.integers(0, 15))) for row in hits]


@st.composite
def shown_lists(draw: st.DrawFn) -> tuple[list[list[int]], int]:
    n_items, k = draw(st.integers(1, 15)), draw(st.integers(1, 5))
    row = st.lists(st.integers(-1, n_items - 1), min_size=k, max_size=k)
    return draw(st.lists(row, min_size=1, max_size=8)), n_items


@given(judged_lists())
def test_many_target_metrics_equal_the_slow_reference(judged: tuple[list[list[bool]], list[int]]) -> None:
    hits, n_relevant = judged
    ideal = [dcg([1.0] * min(len(row), n)) for row, n in zip(hits, n_relevant, strict=True)]
    ndcg = ndcg_of_hits(np.array(hits), np.array(n_relevant))
    np.testing.assert_allclose(
        ndcg,
        [dcg([float(hit) for hit in row]) / best for row, best in zip(hits, ideal, strict=True)],
        rtol=1e-14,
    )
    assert ndcg.max() <= 1
    recall = [sum(row) / n for row, n in zip(hits, n_relevant, strict=True)]
    np.testing.assert_array_equal(recall_of_hits(np.array(hits), np.array(n_relevant)), recall)
    np.testing.assert_array_equal(hit_rate(np.array(hits)), [float(True in row) for row in hits])
    first = [1 / (row.index(True) + 1) if True in row else 0.0 for row in hits]
    np.testing.assert_allclose(reciprocal_rank(np.array(hits)), first, rtol=1e-15)
    precision = [[sum(row[: at + 1]) / (at + 1) for at in range(len(row)) if row[at]] for row in hits]
    expected = [sum(of) / min(len(row), n) for of, row, n in zip(precision, hits, n_relevant, strict=True)]
    np.testing.assert_allclose(average_precision(np.array(hits), np.array(n_relevant)), expected, rtol=1e-12)


@given(shown_lists())
def test_catalogue_metrics_equal_the_slow_reference(shown: tuple[list[list[int]], int]) -> None:
    lists, n_items = shown
    flat = [item for row in lists for item in row if item >= 0]
    assert coverage(np.array(lists, np.int32), n_items) == len(set(flat)) / n_items
    if flat:
        exposure = [flat.count(item) for item in range(n_items)]
        difference = sum(abs(a - b) for a in exposure for b in exposure)  # Gini's own definition
        expected = difference / (2 * n_items * sum(exposure))
        assert exposure_gini(np.array(lists, np.int32), n_items) == pytest.approx(expected, abs=1e-12)


@given(shown_lists(), st.integers(0, 2**32 - 1))
def test_novelty_and_diversity_equal_the_slow_reference(shown: tuple[list[list[int]], int], seed: int) -> None:
    lists, n_items = shown
    rng = np.random.default_rng(seed)
    popularity = rng.integers(0, 9, size=n_items).astype(np.float32)
    vector = rng.integers(-2, 3, size=(n_items, 3)).astype(np.float32)
    flat = [item for row in lists for item in row if item >= 0]
    if flat:
        total = max(popularity.sum(), 1)
        bits = [-log2(min(max(popularity[item], 1) / total, 1)) for item in flat]
        assert novelty(np.array(lists), popularity) == pytest.approx(sum(bits) / len(bits), abs=1e-5)
    unlike = []
    for row in ([item for item in row if item >= 0] for row in lists):
        pairs = [(a, b) for i, a in enumerate(row) for j, b in enumerate(row) if i != j]
        if pairs:
            lengths = [np.linalg.norm(vector[a]) * np.linalg.norm(vector[b]) for a, b in pairs]
            cosines = [vector[a] @ vector[b] / n if n else 0.0 for (a, b), n in zip(pairs, lengths, strict=True)]
            unlike.append(1 - sum(cosines) / len(cosines))
    expected = sum(unlike) / len(unlike) if unlike else 0.0
    assert intra_list_diversity(np.array(lists), vector) == pytest.approx(expected, abs=1e-5)


@given(shown_lists(), st.integers(0, 2**32 - 1))
def test_miscalibration_equals_the_slow_reference(shown: tuple[list[list[int]], int], seed: int) -> None:
    lists, n_items = shown
    rng = np.random.default_rng(seed)
    share = rng.integers(0, 2, size=(n_items, 3)).astype(np.float32)
    share /= np.maximum(share.sum(axis=1, keepdims=True), 1)
    liked = rng.integers(-1, n_items, size=(len(lists), 4))

    def mixture(row: list[int]) -> list[float]:
        mine = [share[item] for item in row if item >= 0 and share[item].any()]
        return [float(np.mean([one[c] for one in mine])) if mine else 0.0 for c in range(3)]

    divergences = []
    for row, before in zip(lists, liked.tolist(), strict=True):
        p, q = mixture(before), mixture(row)
        if any(p) and any(q):
            divergences.append(sum(a * log(a / (0.99 * b + 0.01 * a)) for a, b in zip(p, q, strict=True) if a))
    expected = sum(divergences) / len(divergences) if divergences else 0.0
    assert miscalibration(np.array(lists), liked, share) == pytest.approx(expected, abs=1e-6)


def test_lists_of_the_mixture_that_a_user_likes_are_calibrated_and_others_are_not() -> None:
    share = np.eye(2, dtype=np.float32)
    liked = np.array([[0, 0, 1, -1]])
    assert miscalibration(np.array([[0, 1, 0]]), liked, share) == pytest.approx(0, abs=1e-12)
    half, only = (miscalibration(np.array([one]), liked, share) for one in ([0, 1], [0, 0]))
    assert 0 < half < only
    assert miscalibration(np.array([[0, 1]]), np.full((1, 2), -1), share) == 0


def test_answers_with_one_target_worked_by_hand() -> None:
    hits = np.array([0, 2, 9, 10])[:, None] == np.arange(10)
    one = np.ones(4, np.int64)
    np.testing.assert_allclose(ndcg_of_hits(hits, one), [1, 0.5, 1 / log2(11), 0])
    np.testing.assert_array_equal(hit_rate(hits), [1, 1, 1, 0])
    np.testing.assert_allclose(reciprocal_rank(hits), [1, 1 / 3, 0.1, 0])
    np.testing.assert_allclose(average_precision(hits, one), [1, 1 / 3, 0.1, 0])


def test_novelty_of_empty_lists_is_refused() -> None:
    with pytest.raises(ValueError, match="no item is shown in 2 lists"):
        novelty(np.full((2, 3), -1), np.ones(5, np.float32))


def test_ideal_list_is_limited_by_k_and_by_the_number_of_relevant_items() -> None:
    hits = np.array([[True, True], [True, False], [False, True]])
    n_relevant = np.array([5, 1, 2])
    second = 1 / log2(3)
    np.testing.assert_allclose(ndcg_of_hits(hits, n_relevant), [1, 1, second / (1 + second)])
    np.testing.assert_allclose(recall_of_hits(hits, n_relevant), [0.4, 1, 0.5])


@pytest.mark.parametrize("k", [3, 10, 100, 1000])
def test_perfect_list_scores_exactly_one(k: int) -> None:
    assert ndcg_of_hits(np.ones((1, k), bool), np.array([k]))[0] == 1


def test_gini_runs_from_all_alike_to_one_item_only() -> None:
    assert exposure_gini(np.array([[0, 1], [2, 3]]), 4) == 0
    assert exposure_gini(np.array([[1], [1], [1]]), 4) == 0.75


def test_empty_query_set_has_no_values() -> None:
    assert len(ndcg_of_hits(np.empty((0, 10), bool), np.empty(0, np.int64))) == 0
    assert coverage(np.empty((0, 10), np.int32), 5) == 0


def test_cut_off_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="hits has no columns"):
        ndcg_of_hits(np.empty((1, 0), bool), np.array([1]))


@pytest.mark.parametrize("metric", [ndcg_of_hits, recall_of_hits, average_precision])
@pytest.mark.parametrize("n_relevant", [0, 1])
def test_more_hits_than_relevant_items_are_refused(metric: object, n_relevant: int) -> None:
    assert callable(metric)
    with pytest.raises(ValueError, match=f"query 1 has 2 hits of {n_relevant} relevant items"):
        metric(np.array([[True, False], [True, True]]), np.array([1, n_relevant]))


def test_query_without_a_relevant_item_is_refused() -> None:
    with pytest.raises(ValueError, match="query 0 has 0 hits of 0 relevant items; leave out"):
        recall_of_hits(np.array([[False]]), np.array([0]))


@pytest.mark.parametrize("metric", [coverage, exposure_gini])
@pytest.mark.parametrize(
    ("lists", "n_items", "message"),
    [
        ([[0, 5]], 5, r"item numbers 0\.\.5 leave -1\.\.4"),
        ([[-2, 0]], 5, r"item numbers -2\.\.0 leave"),
        ([[-1, -1]], 0, "n_items is 0"),
    ],
)
def test_item_number_outside_the_catalogue_is_refused(
    metric: object, lists: list[list[int]], n_items: int, message: str
) -> None:
    assert callable(metric)
    with pytest.raises(ValueError, match=message):
        metric(np.array(lists), n_items)


def test_gini_of_empty_lists_is_refused() -> None:
    with pytest.raises(ValueError, match="no item is shown in 2 lists"):
        exposure_gini(np.full((2, 3), -1), 5)
