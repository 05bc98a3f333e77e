"""The linear part: its formula against numpy, and its training against what made the answers."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.ranking import conditional_logit
from recsys.ranking.conditional_logit import fit_linear
from recsys.ranking.linear import Linear

FEATURES = 4


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 9), min_size=1, max_size=6))
@settings(max_examples=60)
def test_shares_are_the_softmax_of_clipped_features_and_their_roots(seed: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    indptr = np.concatenate(([0], np.cumsum(sizes)))
    columns = (3 * rng.normal(size=(FEATURES, indptr[-1]))).astype(np.float32)
    low = rng.uniform(-2, 0, FEATURES).astype(np.float32)
    high = rng.uniform(0, 2, FEATURES).astype(np.float32)
    plain, root = rng.normal(size=(2, FEATURES))
    held = np.clip(columns, low[:, None], high[:, None]).astype(np.float64)
    odds = plain @ held + root @ (np.sign(held) * np.sqrt(np.abs(held)))
    share = Linear(low, high, plain, root).share(columns, indptr)
    for start, end in pairwise(indptr):
        wanted = np.exp(odds[start:end]) / np.exp(odds[start:end]).sum()
        assert np.allclose(share[start:end], wanted, rtol=1e-9)


def test_without_weights_all_candidates_of_a_request_are_alike() -> None:
    share = Linear.none(FEATURES).share(np.ones((FEATURES, 7), np.float32), np.array([0, 2, 7]))
    assert share.tolist() == [0.5] * 2 + [0.2] * 5


def _choices(questions: int, size: int, weights: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One answer a question, drawn with the probabilities of a conditional logit."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(questions * size, len(weights))).astype(np.float32)
    odds = (features @ weights).reshape(questions, size) + rng.gumbel(size=(questions, size))
    label = (odds == odds.max(axis=1, keepdims=True)).ravel().astype(np.float32)
    return features, label, np.arange(questions + 1) * size


def _fit(features: np.ndarray, label: np.ndarray, indptr: np.ndarray, weight: np.ndarray | None = None) -> Linear:
    alike = np.ones(len(label), np.float32)
    ignored = np.zeros(features.shape[1], bool)
    return fit_linear(features, label, indptr, alike if weight is None else weight, ignored=ignored, seed=1)


def test_the_model_that_made_the_answers_is_found() -> None:
    weights = np.array([1.0, -0.5, 0.0])
    features, label, indptr = _choices(4000, 10, weights, seed=2)
    share = _fit(features, label, indptr).share(np.ascontiguousarray(features.T), indptr)
    odds = (features @ weights).reshape(4000, 10)
    truth = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
    assert np.abs(share - truth.ravel()).mean() < 0.01
    assert np.corrcoef(share, truth.ravel())[0, 1] > 0.99


def test_answers_count_for_what_they_weigh() -> None:
    """Half of the questions prefer a feature, half of them its opposite; the heavier half decides."""
    one, other = _choices(1000, 10, np.array([1.0, 0.0]), 3), _choices(1000, 10, np.array([-1.0, 0.0]), 4)
    features, label = (np.concatenate(pair) for pair in zip(one[:2], other[:2], strict=True))
    indptr = np.arange(2001) * 10
    for heavy, sign in ((slice(0, 10_000), 1), (slice(10_000, None), -1)):
        weight = np.ones(20_000, np.float32)
        weight[heavy] = 5
        found = _fit(features, label, indptr, weight)
        up = found.share(np.array([[1, -1], [0, 0]], np.float32), np.array([0, 2]))
        assert (up[0] > up[1]) == (sign > 0)


def test_what_is_ignored_or_the_same_for_all_gets_no_weight() -> None:
    features, label, indptr = _choices(500, 10, np.array([1.0, 1.0, 1.0]), seed=5)
    features[:, 1] = 4
    found = fit_linear(
        features, label, indptr, np.ones(5000, np.float32), ignored=np.array([True, False, False]), seed=1
    )
    assert found.plain[:2].tolist() == found.root[:2].tolist() == [0, 0]
    assert found.plain[2] != 0


def test_of_many_questions_some_are_taken_and_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditional_logit, "QUESTIONS", 300)
    features, label, indptr = _choices(1000, 5, np.array([1.0, -1.0]), seed=6)
    one, again = _fit(features, label, indptr), _fit(features, label, indptr)
    assert one.plain.tobytes() == again.plain.tobytes()
    assert one.low.tobytes() == again.low.tobytes()
    monkeypatch.setattr(conditional_logit, "QUESTIONS", 1000)
    assert _fit(features, label, indptr).plain.tobytes() != one.plain.tobytes()


def test_cells_apart_change_no_other_share() -> None:
    rng = np.random.default_rng(7)
    columns = rng.normal(size=(FEATURES, 8)).astype(np.float32)
    plain, root = rng.normal(size=(2, FEATURES))
    linear = Linear(np.full(FEATURES, -9, np.float32), np.full(FEATURES, 9, np.float32), plain, root)
    without = linear.share(np.ascontiguousarray(columns[:, :7]), np.array([0, 7]))
    apart = np.arange(8) == 7
    share = linear.share(columns, np.array([0, 8]), apart)
    assert share[:7].tobytes() == without.tobytes()
    assert 0 < share[7] < np.inf
    assert linear.share(columns, np.array([0, 8]), np.ones(8, bool)).tolist() == [0] * 8


def test_a_cell_apart_counts_at_most_as_the_best_of_the_others_and_one_that_is_no_number_harms_no_other() -> None:
    linear = Linear(*np.array([[-1e6], [1e6]], np.float32), np.array([1.0]), np.array([0.0]))
    share = linear.share(np.array([[0, 0, 900]], np.float32), np.array([0, 3]), np.array([False, False, True]))
    assert share.tolist() == [0.5, 0.5, 0.5]
    share = linear.share(np.array([[0, np.nan, 0]], np.float32), np.array([0, 3]))
    assert share[[0, 2]].tolist() == [0.5, 0.5]
    assert np.isnan(share[1])
