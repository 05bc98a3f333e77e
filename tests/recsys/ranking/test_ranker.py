"""Our evaluation of the trees against CatBoost's own, on models that CatBoost trained; and the whole ranker."""

from itertools import pairwise

import numpy as np
import pytest
from catboost import CatBoost, Pool

from recsys.bundle import Loss, Recipe
from recsys.errors import TrainingError
from recsys.ranking.catboost import as_arrays
from recsys.ranking.fit import bounds, fit_ranker, importance
from recsys.ranking.trees import Trees

NAMES = tuple("abcdefgh")


def _data(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, len(NAMES))).astype(np.float32)
    features[:, 3] = rng.integers(0, 3, rows)  # a feature with few values: borders fall between them
    label = (features[:, 0] + features[:, 1] * features[:, 2] > 0.5).astype(np.float32)
    return features, label, np.arange(rows) // 20


@pytest.mark.parametrize("loss", ["PairLogit", "QueryRMSE", "Logloss"])
@pytest.mark.parametrize("depth", [1, 4, 6])
def test_sums_of_trees_equal_those_of_catboost_bit_for_bit(loss: str, depth: int) -> None:
    features, label, group = _data(4000)
    model = CatBoost(
        {"loss_function": loss, "iterations": 40, "depth": depth, "allow_writing_files": False, "verbose": False}
    )
    model.fit(Pool(features, label=label, group_id=group))
    trees = as_arrays(model)
    fresh, _, _ = _data(1111, seed=1)
    wanted = model.predict(fresh, prediction_type="RawFormulaVal")
    assert np.array_equal(trees.sum(np.ascontiguousarray(fresh.T)), wanted)
    first = model.predict(fresh, prediction_type="RawFormulaVal", ntree_end=7)
    assert np.array_equal(trees.first(7).sum(np.ascontiguousarray(fresh.T)), first)


def test_a_request_is_scored_alike_whatever_its_neighbours_and_layout() -> None:
    features, label, group = _data(2000)
    ranker = fit_ranker(features, label, group, names=NAMES, recipe=Recipe(trees=20, seed=1))
    assert ranker.linear.plain.any()
    assert len(ranker.trees) == 2 * 20
    indptr = np.array([0, 1, 255, 258, 300, 300, 2000])
    whole = ranker.score(features, indptr)
    assert np.array_equal(ranker.score(np.asfortranarray(features), indptr), whole)
    for start, end in pairwise(indptr):
        assert np.array_equal(ranker.score(features[start:end], np.array([0, end - start])), whole[start:end])
    assert ranker.score(features[:0], np.zeros(1, np.int64)).shape == (0,)


def test_trees_add_to_what_the_linear_part_says() -> None:
    features, label, group = _data(4000)
    indptr = bounds(group)

    def error(trees: int) -> float:
        ranker = fit_ranker(features, label, group, names=NAMES, recipe=Recipe(trees=trees, seed=1))
        left = label - ranker.score(features, indptr)
        left -= np.repeat(np.add.reduceat(left, indptr[:-1]) / np.diff(indptr), np.diff(indptr))
        return float(np.square(left).mean())

    alone, few, many = error(0), error(10), error(100)
    assert many < few < alone  # a product of two features is in the label, which no linear model knows


@pytest.mark.parametrize(
    ("loss", "linear", "used"), [("QueryRMSE", True, True), ("QueryRMSE", False, False), ("PairLogit", True, False)]
)
def test_trees_learn_alone_where_the_recipe_or_the_loss_wants_it(loss: Loss, linear: bool, used: bool) -> None:
    features, label, group = _data(2000)
    recipe = Recipe(trees=10, loss=loss, linear=linear, seed=1)
    ranker = fit_ranker(features, label, group, names=NAMES, recipe=recipe)
    assert ranker.linear.plain.any() == used
    assert len(ranker.trees) == 2 * 10


def test_trees_of_several_seeds_are_averaged() -> None:
    features, label, group = _data(2000)
    columns = np.ascontiguousarray(features.T)

    def trees(seed: int, seeds: int) -> Trees:
        recipe = Recipe(trees=15, linear=False, seed=seed, tree_seeds=seeds)
        return fit_ranker(features, label, group, names=NAMES, recipe=recipe).trees

    alone = [trees(seed, 1).sum(columns) for seed in (4, 5, 6)]
    assert not np.array_equal(alone[0], alone[1])
    np.testing.assert_allclose(trees(4, 3).sum(columns), np.mean(alone, axis=0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("trees", [0, 40])
def test_importance_names_the_features_that_decide(trees: int) -> None:
    features, label, group = _data(4000)
    ranker = fit_ranker(features, label, group, names=NAMES, recipe=Recipe(trees=trees, seed=1))
    shares = importance(ranker, features, group, seed=1)
    assert next(iter(shares)) == "a"
    if trees:
        assert set(list(shares)[:3]) == {"a", "b", "c"}
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert sum(shares.values()) == pytest.approx(100)


@pytest.mark.parametrize("trees", [0, 40])
def test_importance_of_what_is_the_same_for_all_candidates_is_what_it_does_to_their_order(trees: int) -> None:
    features, label, group = _data(4000)
    features[:, 3] = np.repeat(np.random.default_rng(5).random(group[-1] + 1), np.bincount(group))
    ranker = fit_ranker(features, label, group, names=NAMES, recipe=Recipe(trees=trees, seed=1))
    shares = importance(ranker, features, group, seed=1)
    assert shares["d"] == 0 if not trees else shares["d"] < min(shares[name] for name in "abc")


def test_importance_looks_at_all_of_the_log() -> None:
    features, label, group = _data(4000)
    features = np.tile(features, (40, 1))
    features[: len(features) // 2, 0] = 0  # only the later half says anything
    late = np.concatenate([group + number * (group[-1] + 1) for number in range(40)])
    ranker = fit_ranker(features, np.tile(label, 40), late, names=NAMES, recipe=Recipe(trees=0, seed=1))
    assert importance(ranker, features, late, seed=1)["a"] > 0


def test_importance_leaves_the_features_as_they_are_and_knows_rankers_that_say_nothing() -> None:
    features, label, group = _data(400)
    before = features.copy()
    ranker = fit_ranker(features, label, group, names=NAMES, recipe=Recipe(trees=0, linear=False, seed=1))
    assert set(importance(ranker, features, group, seed=1).values()) == {0.0}
    assert np.array_equal(features, before)


def test_ignored_features_are_not_read() -> None:
    features, label, group = _data(2000)
    recipe = Recipe(trees=20, ignored_features=("a", "d"), seed=1)
    ranker = fit_ranker(features, label, group, names=NAMES, recipe=recipe)
    changed = features.copy()
    changed[:, [0, 3]] = 9
    indptr = bounds(group)
    assert np.array_equal(ranker.score(changed, indptr), ranker.score(features, indptr))


@pytest.mark.parametrize("trees", [0, 5])
def test_examples_without_a_positive_are_refused(trees: int) -> None:
    features, label, group = _data(40)
    with pytest.raises(TrainingError, match="more events are needed"):
        fit_ranker(features, np.zeros_like(label), group, names=NAMES, recipe=Recipe(trees=trees, seed=1))
