"""Training of the ranker: the linear part first, then trees on what it leaves."""

import numpy as np
from msgspec.structs import replace

from recsys.bundle import Recipe
from recsys.errors import TrainingError
from recsys.ranking.catboost import fit_trees
from recsys.ranking.conditional_logit import fit_linear
from recsys.ranking.linear import Linear
from recsys.ranking.ranker import Ranker
from recsys.ranking.trees import Trees

_SCORED = 50_000  # rows, about, that importance is measured on


def fit_ranker(
    features: np.ndarray,
    label: np.ndarray,
    group: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    names: tuple[str, ...],
    recipe: Recipe,
    threads: int | None = None,
) -> Ranker:
    """Train what tells the right answers of a request from the other candidates.

    Args:
        features: float32 [m, F]. label: float32 [m], 1 for a right answer, else 0.
        group: int64 [m], the request of each row; rows of a group stand together.
        weight: float32 [m], above 0, of each row in the loss; only ratios count. None: all the same.
        recipe: Its linear, loss, ignored_features, trees, tree_seeds, learning_rate, depth, l2_leaf_reg and seed are
            taken. The linear part gives shares between 0 and 1, which only QueryRMSE can start from: with another
            loss, trees learn alone.
        threads: None: one for each processor. The number changes not a bit of the result.
    Raises:
        TrainingError: no group, or none with a positive.
    """
    if not len(label) or not label.any():
        raise TrainingError("no training request has its next positive among its candidates; more events are needed")
    linear, before = Linear.none(len(names)), None
    if recipe.linear and recipe.loss == "QueryRMSE":
        indptr = bounds(group)
        ignored = np.isin(names, recipe.ignored_features)
        alike = np.ones(len(label), np.float32) if weight is None else weight
        linear = fit_linear(features, label, indptr, alike, ignored=ignored, seed=recipe.seed)
        before = linear.share(np.ascontiguousarray(features.T), indptr)
    seeds = range(recipe.seed, recipe.seed + (recipe.tree_seeds if recipe.trees else 1))
    trees = [
        fit_trees(
            features,
            label,
            group,
            weight,
            before=before,
            names=names,
            recipe=replace(recipe, seed=seed),
            threads=threads,
        )
        for seed in seeds
    ]
    return Ranker(names, linear, Trees.mean(trees) if len(trees) > 1 else trees[0])


def bounds(group: np.ndarray) -> np.ndarray:
    """Where groups that stand together begin and end, int64 [q + 1]."""
    inside = np.flatnonzero(group[1:] != group[:-1]) + 1
    return np.concatenate(([0], inside, [len(group)])) if len(group) else np.zeros(1, np.int64)


def importance(ranker: Ranker, features: np.ndarray, group: np.ndarray, *, seed: int) -> dict[str, float]:
    """How much the order of scores depends on each feature, percent, largest first.

    Breiman, "Random Forests", 2001, with the mean absolute change of the score in the place of the error. What is dealt
    out anew are the values of one feature, among rows, or among requests where each request has one value for all its
    rows. What changes all scores of a request alike changes no order and does not count.
    """
    indptr, rows = _some(bounds(group))
    columns = np.ascontiguousarray(features[rows].T)
    size = np.diff(indptr)
    scored = ranker.score(columns.T, indptr)
    rng = np.random.default_rng(seed)
    changes = []
    for place in range(len(columns)):
        kept = columns[place].copy()
        first = kept[indptr[:-1]]
        of_request = np.array_equal(np.repeat(first, size), kept, equal_nan=True)
        columns[place] = np.repeat(rng.permutation(first), size) if of_request else rng.permutation(kept)
        change = ranker.score(columns.T, indptr) - scored
        change -= np.repeat(np.add.reduceat(change, indptr[:-1]) / size, size)
        changes.append(float(np.abs(change).mean()))
        columns[place] = kept
    total = sum(changes) or 1.0
    shares = zip(ranker.names, (100 * one / total for one in changes), strict=True)
    return dict(sorted(shares, key=lambda one: -one[1]))


def _some(indptr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Requests spread evenly, with about _SCORED rows in all: where each begins and ends, and their rows."""
    size, every = np.diff(indptr), -(-int(indptr[-1]) // _SCORED)
    chosen = np.arange(len(size)) % every == 0
    return np.concatenate(([0], np.cumsum(size[chosen]))), np.flatnonzero(np.repeat(chosen, size))
