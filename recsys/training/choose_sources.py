"""Which candidate sources a bundle reads: those without which fewer right answers would be candidates.

A request ranks a fixed number of candidates, so a source that brings little pushes out what others bring. Sources are
taken away one after the other, each time the one without which most answers are found, as long as that finds more.
"""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np

from recsys.bundle import SourceName
from recsys.recommend import retrieve
from recsys.training.questions import Known, Questions
from recsys.types import World

ASKED = 1500  # questions: the share of answers found has a standard error of about .01
KEPT = "POPULAR"  # it alone can answer who is unknown
ALL = "all"
BATCH = 32


def choose_sources(
    world: World, questions: Questions, known: Known, *, seed: int, progress: Callable[[int], None] = lambda _: None
) -> tuple[tuple[SourceName, ...], dict[str, float]]:
    """The sources of the recipe that are worth their candidates.

    Returns:
        The sources, and the share of right answers among the candidates: of all of them, and without each one alone.
    """
    rows = questions.drawn(ASKED, seed=seed)
    questions, known = questions.take(rows), known.take(rows)
    chosen: tuple[SourceName, ...] = world.bundle.recipe.sources
    told = 0
    best = _recall(world, chosen, questions, known, seed)
    recall = {ALL: best}
    while len(chosen) > 1:
        without = {
            one: _recall(world, tuple(s for s in chosen if s != one), questions, known, seed)
            for one in chosen
            if one != KEPT
        }
        if len(recall) == 1:
            recall |= {f"without {one}": value for one, value in without.items()}
        progress(1)
        told += 1
        weakest = max(without, key=lambda one: without[one], default=None)
        if weakest is None or without[weakest] <= best:
            break
        best = without[weakest]
        chosen = tuple(one for one in chosen if one != weakest)
    progress(len(world.bundle.recipe.sources) - told)
    return chosen, recall


def _recall(world: World, sources: tuple[SourceName, ...], questions: Questions, known: Known, seed: int) -> float:
    recipe = msgspec.structs.replace(world.bundle.recipe, sources=sources)
    reading = replace(world, bundle=replace(world.bundle, recipe=recipe))
    found = 0
    for start in range(0, len(questions), BATCH):
        rows = np.arange(start, min(start + BATCH, len(questions)))
        candidates = retrieve(reading, questions.batch(known, rows, count=1, seed=seed)).candidates
        key = world.bundle.vocabulary.key[candidates.item]
        found += int(questions.answered(rows, candidates.row(), key).sum())
    return found / len(questions.wanted.values)
