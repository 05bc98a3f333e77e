"""Training of the ranker with CatBoost."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys.errors import TrainingError
from recsys.ranking.ranker import Ranker

if TYPE_CHECKING:
    from catboost import CatBoost

DEPTH = 6


def fit_ranker(
    features: np.ndarray, label: np.ndarray, group: np.ndarray, *, names: tuple[str, ...], trees: int, seed: int
) -> tuple[Ranker, dict[str, float]]:
    """Train with the QueryRMSE loss: per request, what tells the right answers from the others (decision 0018).

    Args:
        features: float32 [m, F]. label: float32 [m], 1 for a right answer, else 0.
        group: int64 [m], the request of each row; rows of a group stand together.
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
            "loss_function": "QueryRMSE",
            "iterations": trees,
            "depth": DEPTH,
            "learning_rate": 0.08,
            "l2_leaf_reg": 20.0,
            "random_seed": seed,
            "thread_count": -1,
            "allow_writing_files": False,
            "verbose": False,
        }
    )
    model.fit(Pool(np.ascontiguousarray(features), label=label, group_id=group, feature_names=list(names)))
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
