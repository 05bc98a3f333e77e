"""Our evaluation of the trees against CatBoost's own, on models that CatBoost trained."""

import numpy as np
import pytest
from catboost import CatBoost, Pool

from recsys.bundle import Recipe
from recsys.errors import TrainingError
from recsys.ranking.catboost import as_arrays, fit_ranker

NAMES = tuple("abcdefgh")


def _data(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, len(NAMES))).astype(np.float32)
    features[:, 3] = rng.integers(0, 3, rows)  # a feature with few values: borders fall between them
    label = (features[:, 0] + features[:, 1] * features[:, 2] > 0.5).astype(np.float32)
    return features, label, np.arange(rows) // 20


@pytest.mark.parametrize("loss", ["PairLogit", "QueryRMSE", "Logloss"])
@pytest.mark.parametrize("depth", [1, 4, 6])
def test_scores_equal_those_of_catboost_bit_for_bit(loss: str, depth: int) -> None:
    features, label, group = _data(4000)
    model = CatBoost(
        {"loss_function": loss, "iterations": 40, "depth": depth, "allow_writing_files": False, "verbose": False}
    )
    model.fit(Pool(features, label=label, group_id=group))
    ranker = as_arrays(model, NAMES)
    fresh, _, _ = _data(1111, seed=1)
    assert np.array_equal(ranker.score(fresh), model.predict(fresh, prediction_type="RawFormulaVal"))


def test_a_row_is_scored_alike_whatever_its_neighbours_and_layout() -> None:
    features, label, group = _data(2000)
    ranker, _ = fit_ranker(features, label, group, names=NAMES, recipe=Recipe(trees=20, seed=1))
    whole = ranker.score(features)
    assert np.array_equal(ranker.score(np.asfortranarray(features)), whole)
    for start, end in ((0, 1), (255, 258), (300, 1999)):
        assert np.array_equal(ranker.score(features[start:end]), whole[start:end])
    assert ranker.score(features[:0]).shape == (0,)


def test_importance_names_the_features_that_decide() -> None:
    features, label, group = _data(4000)
    _, importance = fit_ranker(features, label, group, names=NAMES, recipe=Recipe(trees=40, seed=1))
    assert set(list(importance)[:3]) == {"a", "b", "c"}
    assert sum(importance.values()) == pytest.approx(100)


def test_examples_without_a_positive_are_refused() -> None:
    features, label, group = _data(40)
    with pytest.raises(TrainingError, match="more events are needed"):
        fit_ranker(features, np.zeros_like(label), group, names=NAMES, recipe=Recipe(trees=5, seed=1))
