"""Which window of popularity a log asks for."""

import numpy as np
import pytest

from recsys.bundle import Recipe, Window
from recsys.datasets.dataset import Dataset
from recsys.features.user import UserStates
from recsys.training.choose_popularity import choose_popularity
from recsys.training.fit import fit
from recsys.training.learn import fit_models
from recsys.training.log import Log
from recsys.training.questions import Known, Questions
from recsys.training.search_space import with_values
from recsys.training.splits import temporal_next
from recsys.types import Ragged, World
from recsys.verbs import Verb
from recsys.vocabulary import item_key
from tests import worlds
from tests.worlds import DAY_S, START_S, dataset_of


def world_where(answers: str) -> tuple[World, Window]:
    """Item `old` was liked by many two years ago, `new` by a few lately; newcomers like what `answers` says."""
    items = {name: [] for name in ("old", "new", *(f"other-{n}" for n in range(30)))}
    events = [(f"then-{n}", "old", Verb.LIKE, START_S + n * 3600) for n in range(60)]
    events += [(f"then-{n}", f"other-{n % 30}", Verb.LIKE, START_S + n * 3600 + 60) for n in range(60)]
    late_s = START_S + 730 * DAY_S
    events += [(f"lately-{n}", "new", Verb.LIKE, late_s + n * 60) for n in range(10)]
    data = dataset_of(events, items)
    now_s, asked = late_s + DAY_S, 20
    bundle = fit(data, Log.of(data), worlds.SMALL, until_s=now_s)
    wanted = Ragged(np.arange(asked + 1), np.full(asked, item_key(answers), np.uint64))
    questions = Questions(np.arange(asked, dtype=np.int32), np.full(asked, now_s), np.full(asked, len(events)), wanted)
    known = Known.of(UserStates.empty(asked))
    found = choose_popularity(bundle, questions, known)
    assert not found.recipe.choose_popularity
    return World(found, found.item_stats), found.recipe.popular


@pytest.mark.parametrize(("answers", "windows"), [("old", {"year", "ever"}), ("new", {"day", "month"})])
def test_the_window_is_that_in_which_the_answers_are_popular(answers: str, windows: set[str]) -> None:
    world, window = world_where(answers)
    assert window in windows
    row = int(world.popular[0])
    assert world.bundle.vocabulary.item_id[row] == answers
    assert not world.popular.flags.writeable


def fads() -> Dataset:
    """For three years five users a week take a fad that is over then, and one in five weeks takes the evergreen."""
    events = []
    for week in range(156):
        at_s = START_S + week * 7 * DAY_S
        events += [(f"fan-{week}-{n}", f"fad-{week}", Verb.LIKE, at_s + n * 60) for n in range(5)]
        if week % 5 == 0:
            events.append((f"friend-{week}", "evergreen", Verb.LIKE, at_s + 3600))
    return dataset_of(events, {"evergreen": [], **{f"fad-{week}": [] for week in range(156)}})


def test_recipe_of_a_search_keeps_its_strength_of_als_and_gets_its_window_chosen() -> None:
    data, base = fads(), Recipe(factors=8, spectral_factors=8, als_iterations=3)
    searched = with_values(base, {"als_alpha": 4.0})
    models = fit_models(data, temporal_next(Log.of(data), seed=7).past, temporal_next, searched)
    for bundle in (models.fitted, *(world.bundle for world in models.worlds)):
        assert (bundle.recipe.als_alpha, bundle.recipe.als_regularization) == (4.0, base.als_regularization)
        assert bundle.recipe.popular in ("year", "ever")


def test_window_that_is_settled_stays() -> None:
    data = fads()
    recipe = Recipe(factors=8, spectral_factors=8, als_iterations=3, choose_popularity=False)
    models = fit_models(data, temporal_next(Log.of(data), seed=7).past, temporal_next, recipe)
    assert {one.recipe.popular for one in (models.fitted, *(world.bundle for world in models.worlds))} == {"month"}
