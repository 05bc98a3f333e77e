"""EASE beside its definition."""

import numpy as np

from recsys.evaluation import ease
from recsys.evaluation.answers import ask
from recsys.evaluation.baselines import with_ease
from recsys.training.log import Log
from recsys.training.splits import temporal_next
from recsys.types import World
from tests import worlds


def test_lists_are_those_of_the_dense_definition(tastes: World) -> None:
    split = temporal_next(Log.of(worlds.two_tastes()), seed=1)
    pipeline = with_ease(tastes, split.past)["EASE"]
    known = split.known()
    answers = ask(pipeline.world, split.questions, known, score=pipeline.score, seed=1)
    row = tastes.bundle.vocabulary.rows(split.past.key)
    taken = np.zeros((split.past.user.max() + 1, len(tastes.bundle.vocabulary)))
    taken[split.past.user[split.past.positive], row[split.past.positive]] = 1
    inverse = np.linalg.inv(taken.T @ taken + 500 * np.eye(taken.shape[1]))
    weight = -inverse / np.diag(inverse)
    np.fill_diagonal(weight, 0)
    for question in range(0, len(split.questions), 7):
        keys = known.states.item_key[question]
        own = tastes.bundle.vocabulary.rows(keys[keys > 0])
        score = weight[own].sum(axis=0)
        score[own] = -np.inf
        shown = answers.lists[question]
        best = np.sort(score[np.isfinite(score)])[::-1][: len(shown)]
        np.testing.assert_allclose(score[shown[shown >= 0]], best[: np.count_nonzero(shown >= 0)], atol=1e-5)


def test_too_large_a_catalogue_has_no_ease(tastes: World, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(ease, "MOST_ITEMS", 10)
    assert with_ease(tastes, Log.of(worlds.two_tastes())) == {}
