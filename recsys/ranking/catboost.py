"""Training of the ranker's trees with CatBoost."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys.bundle import Recipe
from recsys.ranking.trees import DEPTH, Trees

if TYPE_CHECKING:
    from catboost import CatBoost


def fit_trees(
    features: np.ndarray,
    label: np.ndarray,
    group: np.ndarray,
    weight: np.ndarray | None,
    *,
    before: np.ndarray | None,
    names: tuple[str, ...],
    recipe: Recipe,
    threads: int | None,
) -> Trees:
    """Trees for the loss of the recipe, the same for the same data and seed. Arguments as of `fit_ranker`.

    Args:
        before: float64 [m], scores that the trees are added to; None: nothing.
        threads: Changes not a bit: CatBoost 1.2.10 gave the same with 1, 2, 3, 4 and 8, with weights and without; a
            test holds it.
    """
    if not recipe.trees:
        return Trees(np.zeros((0, DEPTH), np.int32), np.zeros((0, DEPTH), np.float32), np.zeros((0, 1 << DEPTH)), 0.0)
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
    rows = np.ascontiguousarray(features)
    model.fit(Pool(rows, label=label, group_id=group, weight=weight, baseline=before, feature_names=list(names)))
    return as_arrays(model)


def as_arrays(model: "CatBoost") -> Trees:
    """The trees of a model over float features."""
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
    return Trees(feature, border, leaf * scale, float(bias))
