"""Training of the ranker with CatBoost."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys.bundle import Recipe
from recsys.errors import TrainingError
from recsys.ranking.ranker import DEPTH, Ranker

if TYPE_CHECKING:
    from catboost import CatBoost


def fit_ranker(
    features: np.ndarray,
    label: np.ndarray,
    group: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    names: tuple[str, ...],
    recipe: Recipe,
    threads: int | None = None,
) -> tuple[Ranker, dict[str, float]]:
    """Train with the loss of the recipe: by default, per request, what tells the right answers from the others.

    Args:
        features: float32 [m, F]. label: float32 [m], 1 for a right answer, else 0.
        group: int64 [m], the request of each row; rows of a group stand together.
        weight: float32 [m], above 0, of each row in the loss; only ratios count. None: all the same.
        recipe: Its loss, ignored_features, trees, learning_rate, depth, l2_leaf_reg and seed are taken.
        threads: None: one for each processor. The number changes not a bit of the result: CatBoost 1.2.10 gave the
            same with 1, 2, 3, 4 and 8, with weights and without; a test holds it.
    Returns:
        The ranker, the same for the same data and seed, and the share of the score's changes due to each feature, in
        percent, largest first (prediction values change).
    Raises:
        TrainingError: no group, or none with a positive.
    """
    if not len(label) or not label.any():
        raise TrainingError("no training request has its next positive among its candidates; more events are needed")
    from catboost import CatBoost, Pool  # here: it imports pandas, 0.4 s that only training need wait for

    model = CatBoost(
        {
            "loss_function": recipe.loss,
            "iterations": recipe.trees,
            "depth": recipe.depth,
            "learning_rate": recipe.learning_rate,
            "l2_leaf_reg": recipe.l2_leaf_reg,
            "random_seed": recipe.seed,
            "thread_count": threads or -1,
            "ignored_features": [place for place, name in enumerate(names) if name in recipe.ignored_features],
            "allow_writing_files": False,
            "verbose": False,
        }
    )
    if weight is not None:  # of mean 1, or the regularisation would weigh less; none if equal, for the same bits
        weight = None if (weight == weight[0]).all() else weight / weight.mean(dtype=np.float64)
    model.fit(
        Pool(np.ascontiguousarray(features), label=label, group_id=group, weight=weight, feature_names=list(names))
    )
    values = model.get_feature_importance(type="PredictionValuesChange")
    importance = dict(sorted(zip(names, map(float, values), strict=True), key=lambda one: -one[1]))
    return as_arrays(model, names), importance


def as_arrays(model: "CatBoost", names: tuple[str, ...]) -> Ranker:
    """The trees of a model over float features, as arrays."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        described = json.loads(path.read_text("utf-8"))
    trees = described["oblivious_trees"]
    feature = np.zeros((len(trees), DEPTH), np.int32)
    border = np.full((len(trees), DEPTH), np.inf, np.float32)
    leaf = np.zeros((len(trees), 1 << DEPTH))
    for number, tree in enumerate(trees):
        for split, one in enumerate(tree["splits"] or ()):
            feature[number, split] = one["float_feature_index"]
            border[number, split] = one["border"]
        leaf[number, : len(tree["leaf_values"])] = tree["leaf_values"]
    scale, (bias,) = described["scale_and_bias"]
    return Ranker(names, feature, border, leaf * scale, float(bias))
