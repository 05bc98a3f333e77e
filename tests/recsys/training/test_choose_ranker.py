"""The choice between a linear ranker, one with trees, and trees alone."""

import numpy as np
import pytest

from recsys.bundle import Recipe
from recsys.features.matrix import NAMES
from recsys.ranking.fit import fit_ranker
from recsys.ranking.ranker import Ranker
from recsys.training import choose_ranker as choose_ranker_module
from recsys.training.choose_ranker import USERS_MIN, USUAL, _standard_error, choose_ranker
from recsys.training.examples import Examples
from recsys.training.learn import LESSONS, fit_models, teach
from recsys.training.log import Log
from recsys.training.splits import temporal_next
from tests import worlds

RECIPE = Recipe(trees=120, depth=4, seed=3)
EAGER = Recipe(trees=120, learning_rate=0.3, l2_leaf_reg=1.0, seed=3)  # whose trees learn what is chance


def lesson(truth: str, questions: int, seed: int) -> Examples:
    """One answer among 20; how it is made of the first features is what a kind of ranker can say."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(questions, 20, len(NAMES))).astype(np.float32)
    odds = 2 * x[..., 0] - x[..., 1] if truth == "linear" else 4.0 * (np.abs(x[..., 0] - x[..., 1]) < 0.4)
    odds = odds + rng.gumbel(size=odds.shape)
    label = (odds == odds.max(axis=1, keepdims=True)).ravel().astype(np.float32)
    group = np.repeat(np.arange(questions), 20)
    rows = x.reshape(-1, len(NAMES))
    return Examples(rows, label, group, np.ones(len(label), np.float32), questions, questions)


def chosen(older: list[Examples], judge: Examples, recipe: Recipe) -> Recipe:
    """The choice where each question is another user's."""
    return choose_ranker(older, judge, np.arange(judge.asked), recipe)


def tried(older: list[Examples], judge: Examples) -> list[tuple[Recipe, np.ndarray]]:
    """Every ranker that the choice is among, and NDCG@10 of each question."""
    module = choose_ranker_module
    return [(kind, module._ndcg(judge, ranker)) for kind, ranker in module._rankers(older[0], EAGER, None)]


def test_where_the_truth_is_linear_no_tree_is_kept() -> None:
    found = chosen([lesson("linear", 300, 1)], lesson("linear", 1000, 2), EAGER)
    assert (found.linear, found.trees, found.choose_ranker) == (True, 0, False)


def test_where_no_linear_model_knows_the_answer_trees_are_kept() -> None:
    found = chosen([lesson("near", 600, 1), lesson("near", 600, 3)], lesson("near", 500, 2), RECIPE)
    assert found.trees >= 50
    assert not found.choose_ranker


def test_what_is_ahead_by_chance_is_not_chosen() -> None:
    older, judge = [lesson("linear", 300, 1)], lesson("linear", 40, 2)
    values = {kind.trees: value for kind, value in tried(older, judge) if kind.linear}
    assert values[0].mean() > values[USUAL].mean()
    assert chosen(older, judge, EAGER).trees == USUAL


def test_few_users_settle_nothing_however_much_they_ask() -> None:
    older, judge = [lesson("linear", 300, 1)], lesson("linear", 1000, 2)
    assert chosen(older, judge, EAGER).trees == 0
    assert choose_ranker(older, judge, np.arange(1000) % (USERS_MIN - 1), EAGER).trees == USUAL


def test_what_one_user_asks_counts_together() -> None:
    gain = np.tile([0.1, -0.05, 0.3, 0.0], 25)
    assert _standard_error(gain, np.arange(100)) == pytest.approx(gain.std(ddof=1) / 10)
    twice = _standard_error(np.repeat(gain, 2), np.repeat(np.arange(100), 2))
    assert twice == pytest.approx(gain.std(ddof=1) / 10)


def test_no_ranker_has_more_trees_than_the_recipe() -> None:
    recipe = Recipe(trees=10, depth=4, seed=3)
    assert chosen([lesson("near", 300, 1)], lesson("near", 300, 2), recipe).trees <= 10


@pytest.mark.parametrize("silent", ["older", "judge", "no older"])
def test_where_nothing_can_be_chosen_few_trees_correct_a_linear_model(silent: str) -> None:
    spoken, none = lesson("linear", 20, 1), lesson("linear", 20, 1)
    none.label[:] = 0
    older = {"older": [none], "judge": [spoken], "no older": []}[silent]
    found = chosen(older, none if silent == "judge" else spoken, RECIPE)
    assert (found.linear, found.trees, found.choose_ranker) == (True, 25, False)


def test_a_loss_that_cannot_correct_a_linear_model_gets_trees_alone() -> None:
    recipe = Recipe(trees=20, depth=2, loss="PairLogit", seed=3)
    found = chosen([lesson("linear", 100, 1)], lesson("linear", 100, 2), recipe)
    assert (found.linear, found.trees) == (False, 20)


@pytest.mark.parametrize("choose", [True, False])
def test_training_chooses_on_one_lesson_more_than_the_ranker_learns_from(choose: bool) -> None:
    data = worlds.two_tastes()
    past = temporal_next(Log.of(data), seed=7).past
    recipe = Recipe(factors=8, spectral_factors=8, als_iterations=3, trees=60, choose_als=False, choose_ranker=choose)
    models = fit_models(data, past, temporal_next, recipe)
    assert len(models.lessons) == LESSONS + choose
    taught = teach(models, models.fitted.recipe).bundle
    assert not taught.recipe.choose_ranker
    assert taught.ranker is not None
    assert len(taught.ranker.trees) == taught.recipe.trees * taught.recipe.tree_seeds
    if not choose:
        assert (taught.recipe.linear, taught.recipe.trees) == (True, 60)


def test_of_a_long_lesson_some_questions_are_taken_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose_ranker_module, "TAUGHT", 10)
    seen: list[np.ndarray] = []

    def fitted(features: np.ndarray, label: np.ndarray, group: np.ndarray, *rest: object, **named: object) -> Ranker:
        seen.append(group)
        return fit_ranker(features, label, group, *rest, **named)

    monkeypatch.setattr(choose_ranker_module, "fit_ranker", fitted)
    chosen([lesson("linear", 100, 1)], lesson("linear", 50, 2), RECIPE)
    assert np.unique(seen[0]).tolist() == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]
    assert len(seen[0]) == 200
