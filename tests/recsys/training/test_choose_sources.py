"""Which sources are worth their candidates."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from recsys.recommend import retrieve
from recsys.training.choose_sources import ALL, BATCH, _Brought, _recall, choose_sources
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


def test_sources_are_taken_away_one_after_the_other_as_long_as_more_is_found(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The choice alone, with given recalls: two sources only push others out, one is worth as much as nothing."""
    worth = {"ALS": 0.2, "TRANSITIONS": 0.3, "SIMILAR": 0.0, "HISTORY": -0.1, "SPECTRAL": -0.05, "POPULAR": 0.1}

    def recall(_brought: object, sources: tuple[str, ...]) -> float:
        return round(sum(worth[one] for one in sources), 6)

    monkeypatch.setattr("recsys.training.choose_sources._recall", recall)
    chosen, told = choose(models, 200, *worth)
    assert chosen == ("ALS", "TRANSITIONS", "SIMILAR", "POPULAR")
    assert told["without HISTORY"] > told[ALL] == 0.45


@pytest.mark.parametrize(
    "sources", [("ALS", "SPECTRAL", "TRANSITIONS", "POPULAR"), ("SIMILAR", "POPULAR"), ("POPULAR",)]
)
def test_recall_is_that_of_the_candidates_that_are_served(models: Models, sources: tuple[str, ...]) -> None:
    """Of fewer candidates than a source brings; lists read once come to what each retrieval of its own does."""
    everything, first = replace(models.worlds[0], candidates=5), models.lessons[0]
    recipe = msgspec.structs.replace(everything.bundle.recipe, sources=sources)
    some = replace(everything, bundle=replace(everything.bundle, recipe=recipe))
    rows = np.arange(min(200, len(first.questions)))
    questions, known, found = first.questions.take(rows), first.known.take(rows), 0
    for start in range(0, len(rows), BATCH):
        of = rows[start : start + BATCH]
        candidates = retrieve(some, questions.batch(known, of, count=1, seed=1)).candidates
        found += questions.answered(of, candidates.row(), some.bundle.vocabulary.key[candidates.item]).sum()
    brought = _Brought.by(everything, questions, known, 1)
    assert 0 < found / len(questions.wanted.values) == _recall(brought, sources) < 1
