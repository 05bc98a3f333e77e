"""Contributions add up to scores on every kind of ranker, and those of trees are CatBoost's own."""

from itertools import pairwise

import numpy as np
import pytest
from catboost import CatBoost, Pool
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.bundle import Recipe
from recsys.explanations.contributions import contributions
from recsys.ranking.catboost import as_arrays, fit_trees
from recsys.ranking.fit import bounds, fit_ranker
from recsys.ranking.linear import Linear
from recsys.ranking.ranker import Ranker
from recsys.ranking.trees import Trees

NAMES = tuple("abcdefgh")


def _data(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, len(NAMES))).astype(np.float32)
    features[:, 3] = rng.integers(0, 3, rows)
    features[:, 4] = np.repeat(rng.normal(size=rows // 20), 20)  # the same for a whole request
    label = (features[:, 0] + features[:, 1] * features[:, 2] + 0.3 * features[:, 3] > 0.8).astype(np.float32)
    return features, label, np.arange(rows) // 20


def _recipe(kind: str) -> Recipe:
    loss = kind if kind in ("PairLogit", "QuerySoftMax", "YetiRank") else "QueryRMSE"
    return Recipe(
        loss=loss,
        linear=kind != "trees alone",
        trees=0 if kind == "linear alone" else 30,
        depth=3 if kind == "shallow" else 6,
        learning_rate=0.1,
    )


KINDS = ("linear alone", "trees alone", "linear and trees", "shallow", "PairLogit", "QuerySoftMax", "YetiRank")


@pytest.fixture(scope="module")
def rankers() -> dict[str, Ranker]:
    features, label, group = _data(4000, 1)
    return {kind: fit_ranker(features, label, group, names=NAMES, recipe=_recipe(kind)) for kind in KINDS}


def test_kinds_are_what_they_are_called(rankers: dict[str, Ranker]) -> None:
    assert {kind: (len(one.trees), bool(one.linear.plain.any())) for kind, one in rankers.items()} == {
        "linear alone": (0, True),
        "trees alone": (60, False),
        "linear and trees": (60, True),
        "shallow": (60, True),
        "PairLogit": (60, False),
        "QuerySoftMax": (60, False),
        "YetiRank": (60, False),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_contributions_add_up_to_the_score_of_every_candidate(rankers: dict[str, Ranker], kind: str) -> None:
    ranker, (features, _, group) = rankers[kind], _data(2000, 2)
    for start, end in list(pairwise(bounds(group)))[:25]:
        matrix = features[start:end]
        apart = np.arange(len(matrix)) % 7 == 3
        cells = np.arange(len(matrix))
        score = ranker.score(matrix, np.array([0, len(matrix)]), apart)
        for against in (cells, cells[:1], cells[4:9]):
            found = contributions(ranker, matrix, cells, against, apart)
            assert np.abs(found.base + found.value.sum(axis=1) - score).max() < 1e-9
            assert np.abs(found.value[:, 4]).max() < 1e-12  # what all candidates have alike adds nothing


@pytest.mark.parametrize("kind", KINDS)
def test_beside_one_candidate_they_are_the_difference_of_the_scores(rankers: dict[str, Ranker], kind: str) -> None:
    ranker, (features, _, _) = rankers[kind], _data(40, 3)
    apart = np.zeros(40, bool)
    score = ranker.score(features, np.array([0, 40]), apart)
    found = contributions(ranker, features, np.array([7]), np.array([23]), apart)
    assert found.base == pytest.approx(score[23], abs=1e-12)
    assert found.value.sum() == pytest.approx(score[7] - score[23], abs=1e-9)


@pytest.mark.parametrize("depth", [1, 3, 6])
def test_values_of_trees_are_those_of_catboost_for_the_same_comparison(depth: int) -> None:
    features, label, _ = _data(4000, 4)
    options = {"loss_function": "RMSE", "iterations": 40, "depth": depth, "allow_writing_files": False}
    model = CatBoost({**options, "verbose": False})
    model.fit(Pool(features, label=label))
    ranker = Ranker(NAMES, Linear.none(len(NAMES)), as_arrays(model))
    matrix, label, _ = _data(60, 5)
    asked, compared = np.arange(0, 20), np.arange(10, 60)
    of_asked, of_compared = (Pool(matrix[cells], label=label[cells]) for cells in (asked, compared))
    theirs = model.get_feature_importance(of_asked, type="ShapValues", reference_data=of_compared)
    ours = contributions(ranker, matrix, asked, compared, np.zeros(60, bool))
    share = 1 / 60  # of the linear part, which knows nothing here
    assert np.abs(ours.value - theirs[:, :-1]).max() < 1e-9
    assert np.abs(ours.base - share - theirs[:, -1]).max() < 1e-9


def _random_ranker(rng: np.random.Generator) -> Ranker:
    """Weights, trees and bounds from a hat: a feature may be split twice in a tree, and leaves may be equal."""
    f = len(NAMES)
    low, high = rng.uniform(-2, 0, f).astype(np.float32), rng.uniform(0, 2, f).astype(np.float32)
    plain, root = rng.normal(size=(2, f)) * (rng.random((2, f)) < 0.7) * rng.choice([0.0, 1.0, 5.0])
    trees, depth = int(rng.integers(0, 6)), int(rng.integers(1, 7))
    border = rng.choice([-1.0, 0.0, 1.0, np.inf], (trees, depth)).astype(np.float32)
    feature = rng.integers(0, f, (trees, depth)).astype(np.int32)
    leaf = rng.integers(-3, 4, (trees, 1 << depth)).astype(np.float64)
    return Ranker(NAMES, Linear(low, high, plain, root), Trees(feature, border, leaf, float(rng.normal())))


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 30))
@settings(max_examples=150)
def test_contributions_of_any_ranker_add_up(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    ranker = _random_ranker(rng)
    matrix = rng.normal(size=(n, len(NAMES))).astype(np.float32)
    apart = rng.random(n) < rng.choice([0.0, 0.3, 1.0])
    score = ranker.score(matrix, np.array([0, n]), apart)
    cells = rng.permutation(n)[: max(1, n // 2)]
    against = rng.permutation(n)[: int(rng.integers(1, n + 1))]
    found = contributions(ranker, matrix, cells, against, apart)
    assert np.abs(found.base + found.value.sum(axis=1) - score[cells]).max() < 1e-6


def test_a_feature_that_nothing_reads_adds_nothing() -> None:
    features, label, group = _data(4000, 6)
    recipe = Recipe(trees=20, ignored_features=("b", "h"))
    ranker = fit_ranker(features, label, group, names=NAMES, recipe=recipe)
    cells = np.arange(20)
    found = contributions(ranker, features[:20], cells, cells, np.zeros(20, bool))
    assert not found.value[:, [1, 7]].any()
    assert np.abs(found.value).sum(axis=0)[[0, 2, 3]].min() > 0


def test_candidate_whose_score_is_no_number_has_no_contributions_and_harms_no_other(rankers: dict[str, Ranker]) -> None:
    ranker, matrix = rankers["linear and trees"], _data(20, 8)[0][:10]
    matrix[3, 0] = np.nan
    cells, apart = np.arange(10), np.zeros(10, bool)
    found = contributions(ranker, matrix, cells, cells, apart)
    score = ranker.score(matrix, np.array([0, 10]), apart)
    others = cells != 3
    assert np.isnan(found.value[3]).any()
    assert np.abs(found.base + found.value[others].sum(axis=1) - score[others]).max() < 1e-9


def test_no_trees_at_all_are_no_contributions() -> None:
    trees = fit_trees(*_data(40, 1), None, before=None, names=NAMES, recipe=Recipe(trees=0), threads=1)
    found = contributions(
        Ranker(NAMES, Linear.none(len(NAMES)), trees), _data(40, 1)[0], np.arange(3), np.arange(40), np.zeros(40, bool)
    )
    assert (found.base, found.value.any()) == (pytest.approx(1 / 40), False)
