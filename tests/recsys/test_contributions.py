"""What a user's interactions add to a source's score is all of that score."""

from dataclasses import replace

import numpy as np
import pytest
from msgspec.structs import replace as replace_fields

from recsys.bundle import Recipe
from recsys.contributions import contributions
from recsys.recommend import retrieve
from recsys.types import Source, World
from recsys.users import Users
from tests.worlds import batch_of, random_asks

PERSONAL = [
    Source.ALS,
    Source.TRANSITIONS,
    Source.SIMILAR,
    Source.HISTORY,
    Source.SPECTRAL,
    Source.NEARBY,
    Source.CONTENT,
]


@pytest.mark.parametrize("source", PERSONAL)
def test_contributions_add_up_to_the_score_of_the_source(world: World, source: Source) -> None:
    recipe = replace_fields(world.bundle.recipe, sources=Recipe().sources)  # of these data training takes fewer
    world = replace(world, bundle=replace(world.bundle, recipe=recipe))
    batch = batch_of(world, random_asks(world, np.random.default_rng(2), 30))
    candidates, users = retrieve(world, batch).candidates, Users.of(world, batch)
    score, row = candidates.source_score[source], candidates.row()
    cells = np.flatnonzero(candidates.sources >> source & 1)
    assert len(cells) > 20
    for cell in cells[:: max(len(cells) // 50, 1)].tolist():
        found = contributions(world, users, int(row[cell]), int(candidates.item[cell]), source)
        assert sum(one.adds for one in found) == pytest.approx(float(score[cell]), rel=1e-3, abs=1e-5)
        assert [one.adds for one in found] == sorted((one.adds for one in found), reverse=True)
        own = set(users.history.liked[row[cell]].tolist())
        assert all(one.item in own for one in found)


def test_popular_and_new_items_are_not_owed_to_what_a_user_did(world: World) -> None:
    batch = batch_of(world, random_asks(world, np.random.default_rng(2), 1))
    users = Users.of(world, batch)
    assert contributions(world, users, 0, 0, Source.POPULAR) == contributions(world, users, 0, 0, Source.NEW) == []
