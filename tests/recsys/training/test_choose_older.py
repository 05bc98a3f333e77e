"""Older items count where any item of a user is asked for, and not where tastes have changed."""

import msgspec
import numpy as np
import pytest

from recsys.bundle import Recipe
from recsys.datasets.dataset import Dataset
from recsys.training.choose_older import OLDER
from recsys.training.learn import fit_models
from recsys.training.log import Log
from recsys.training.splits import Divide, held_out_items, temporal_next
from recsys.verbs import Verb
from tests.worlds import DAY_S, START_S, dataset_of

RECIPE = Recipe(factors=8, spectral_factors=8, als_iterations=3, choose_als=False, choose_popularity=False)


def liking(*, then_anything: bool) -> Dataset:
    """Sixty users who like 100 items of one of six groups; then 60 of another one, or of any: these fill the ring."""
    rng = np.random.default_rng(5)
    groups = [[f"g{group}-{n}" for n in range(160)] for group in range(6)]
    everything = [item for group in groups for item in group]
    events = []
    for user in range(60):
        first, then = rng.permutation(6)[:2]
        others = everything if then_anything else groups[then]
        liked = dict.fromkeys([*rng.permutation(groups[first])[:100], *rng.permutation(others)[:80]])
        events += [(f"u{user}", str(item), Verb.LIKE, START_S + n * DAY_S + user) for n, item in enumerate(liked)]
    return dataset_of(events, {item: [] for item in everything})


@pytest.mark.parametrize(
    ("divide", "then_anything", "older"), [(held_out_items, True, OLDER), (temporal_next, False, 0)]
)
def test_older_items_are_read_where_they_say_something(divide: Divide, then_anything: bool, older: int) -> None:
    data = liking(then_anything=then_anything)
    models = fit_models(data, divide(Log.of(data), seed=7).past, divide, RECIPE)
    found = models.fitted.recipe
    assert (found.older, found.choose_older) == (older, False)
    assert {world.bundle.recipe.older for world in models.worlds} == {older}


def test_what_is_settled_stays() -> None:
    data = liking(then_anything=True)
    recipe = msgspec.structs.replace(RECIPE, older=12, choose_older=False)
    models = fit_models(data, held_out_items(Log.of(data), seed=7).past, held_out_items, recipe)
    assert models.fitted.recipe.older == 12
