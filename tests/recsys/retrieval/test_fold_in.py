"""The folded-in vector is the one that the trained model would have given."""

import numpy as np
import pytest
from implicit.als import AlternatingLeastSquares
from scipy import sparse
from threadpoolctl import threadpool_limits

from recsys.features.history import History
from recsys.features.user import RING
from recsys.retrieval.fold_in import fold_in
from recsys.types import World
from recsys.users import Users
from recsys.verbs import Verb, event_types
from tests.worlds import START_S, Ask, batch_of, likes

ALPHA, REGULARIZATION = 7.0, 0.3


def by_formula(factors: np.ndarray, items: list[int], weights: float | list[float] = 1.0) -> np.ndarray:
    """Hu, Koren, Volinsky 2008, eq. 4, in double precision."""
    y = factors.astype(np.float64)
    confidence = np.zeros(len(y))
    confidence[items] = ALPHA * np.array(weights)
    a = y.T @ y + (y.T * confidence) @ y + REGULARIZATION * np.eye(y.shape[1])
    return np.linalg.solve(a, y.T @ ((1 + confidence) * (confidence > 0)))


def histories(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    item = np.full((len(rows), RING), -1, np.int32)
    for row, items in enumerate(rows):
        item[row, : len(items)] = items
    return item, (item >= 0).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> AlternatingLeastSquares:
    """60 users x 40 items."""
    rng = np.random.default_rng(1)
    likes = sparse.csr_matrix((rng.random((60, 40)) < 0.2).astype(np.float32) * (1 + ALPHA))
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=8, regularization=REGULARIZATION, alpha=1.0, iterations=8, random_state=1, use_gpu=False
        )
        model.fit(likes, show_progress=False)
    return model


def gram_of(factors: np.ndarray) -> np.ndarray:
    return factors.T @ factors + np.float32(REGULARIZATION) * np.eye(factors.shape[1], dtype=np.float32)


def test_vector_is_the_one_that_implicit_recalculates(model: AlternatingLeastSquares) -> None:
    factors = np.asarray(model.item_factors)
    rows = [[0], [3, 17, 29], list(range(25))]
    item, weight = histories(rows)
    found = fold_in(factors, gram_of(factors), item, weight, alpha=ALPHA)
    for vector, items in zip(found, rows, strict=True):
        likes = sparse.csr_matrix(
            (np.full(len(items), 1 + ALPHA, np.float32), ([0] * len(items), items)), shape=(1, 40)
        )
        np.testing.assert_allclose(vector, model.recalculate_user(0, likes), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("d", [1, 2, 33, 64])
def test_vector_is_the_solution_in_double_precision(d: int) -> None:
    rng = np.random.default_rng(d)
    factors = rng.normal(0, 0.3, size=(200, d)).astype(np.float32)
    rows = [rng.permutation(200)[:n].tolist() for n in (1, 5, 40, RING)]
    item, weight = histories(rows)
    found = fold_in(factors, gram_of(factors), item, weight, alpha=ALPHA)
    assert found.dtype == np.float32
    for vector, items in zip(found, rows, strict=True):
        np.testing.assert_allclose(vector, by_formula(factors, items), rtol=1e-3, atol=1e-5)


def test_user_without_a_positive_has_the_zero_vector() -> None:
    factors = np.random.default_rng(2).normal(size=(10, 4)).astype(np.float32)
    item, _ = histories([[], [1, 2]])
    found = fold_in(factors, gram_of(factors), item, np.zeros(item.shape, np.float32), alpha=ALPHA)
    assert not found.any()


def test_what_is_not_positive_has_no_weight() -> None:
    factors = np.random.default_rng(3).normal(size=(10, 4)).astype(np.float32)
    item, weight = histories([[1, 2, 3], [2]])
    weight[0, [0, 2]] = 0
    first, second = fold_in(factors, gram_of(factors), item, weight, alpha=ALPHA)
    np.testing.assert_allclose(first, second, rtol=1e-5)


def test_an_item_weighs_as_much_as_the_most_that_was_done_to_it(model: AlternatingLeastSquares) -> None:
    factors = np.asarray(model.item_factors)
    item, weight = histories([[3, 17, 29]])
    weight[0, :3] = 0.5, 1, 4
    (found,) = fold_in(factors, gram_of(factors), item, weight, alpha=ALPHA)
    np.testing.assert_allclose(found, by_formula(factors, [3, 17, 29], [0.5, 1, 4]), rtol=2e-3, atol=2e-4)
    likes = sparse.csr_matrix((1 + ALPHA * weight[0, :3], ([0] * 3, [3, 17, 29])), shape=(1, 40))
    np.testing.assert_allclose(found, model.recalculate_user(0, likes), rtol=2e-3, atol=2e-4)


def test_weight_of_an_item_is_that_of_the_most_that_was_done_to_it(tiny: World) -> None:
    own = event_types({"share": 2.5, "skip": 0})
    verbs = [("a", own["share"]), ("b", own["skip"]), ("a", Verb.VIEW), ("b", Verb.LIKE), ("a", own["skip"])]
    batch = batch_of(tiny, [Ask([(item, verb, START_S) for item, verb in verbs])])
    history = History.of(batch.states, tiny)
    assert history.weight[0, :5].tolist() == [0, 1, 2.5, 0, 0]
    assert history.positive[0, :5].tolist() == [False, True, True, False, True]


def test_meeting_an_item_again_leaves_the_vector_as_training_would_have_it(world: World) -> None:
    """Training knows who liked what, not how often: each positive has one confidence."""
    a, b, c = world.bundle.vocabulary.item_id.tolist()[:3]
    again, once = Users.of(world, batch_of(world, [Ask(likes(a, b, c, b, b, a)), Ask(likes(a, b, c))])).vector
    assert once.any()
    np.testing.assert_allclose(again, once, rtol=1e-4, atol=1e-6)


def test_newest_positive_slot_of_each_item_has_its_weight(tiny: World) -> None:
    verbs = [("a", Verb.LIKE), ("b", Verb.LIKE), ("a", Verb.VIEW), ("gone", Verb.LIKE), ("gone", Verb.LIKE)]
    verbs += [("c", Verb.HIDE), ("b", Verb.HIDE), ("c", Verb.LIKE), ("c", Verb.LIKE)]
    batch = batch_of(tiny, [Ask([(item, verb, START_S) for item, verb in verbs]), Ask(likes("a"))])
    history = History.of(batch.states, tiny)
    slots = [np.flatnonzero(row).tolist() for row in history.weight]
    assert slots == [[0, 6, 7], [0]]
    assert history.item[0, slots[0]].tolist() == [2, 0, 1]
    assert np.flatnonzero(history.positive[0]).tolist() == [0, 1, 6, 7, 8]
