"""Which sources are worth their candidates."""

from dataclasses import replace

import msgspec
import pytest

from recsys.training.choose_sources import ALL, choose_sources
from recsys.training.learn import Models, fit_models
from recsys.training.log import Log
from recsys.training.splits import temporal_next
from tests import worlds


@pytest.fixture(scope="module")
def models() -> Models:
    split = temporal_next(Log.of(worlds.chain()), seed=1)
    return fit_models(worlds.chain(), split.past, temporal_next, worlds.SMALL)


def choose(models: Models, candidates: int, *sources: str) -> tuple[tuple[str, ...], dict[str, float]]:
    world, first = models.worlds[0], models.lessons[0]
    recipe = msgspec.structs.replace(world.bundle.recipe, sources=sources)
    some = replace(world, candidates=candidates, bundle=replace(world.bundle, recipe=recipe))
    return choose_sources(some, first.questions, first.known, seed=1)


def test_nothing_is_taken_away_where_all_items_are_candidates_anyway(models: Models) -> None:
    chosen, recall = choose(models, 200, "ALS", "TRANSITIONS", "POPULAR")
    assert "POPULAR" in chosen
    assert recall[ALL] == 1
    assert chosen == ("ALS", "TRANSITIONS", "POPULAR")


def test_popularity_stays_whatever_it_brings(models: Models) -> None:
    assert choose(models, 200, "POPULAR") == (("POPULAR",), {ALL: 1.0})


def test_recall_without_each_source_is_told(models: Models) -> None:
    _, recall = choose(models, 3, "TRANSITIONS", "SPECTRAL", "POPULAR")
    assert set(recall) == {ALL, "without TRANSITIONS", "without SPECTRAL"}
    assert recall["without SPECTRAL"] > recall["without TRANSITIONS"]
