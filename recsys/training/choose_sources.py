"""Which candidate sources a bundle reads: those without which fewer right answers would be candidates.

A request ranks a fixed number of candidates, so a source that brings little pushes out what others bring. Sources are
taken away one after the other, each time the one without which most answers are found, as long as that finds more.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from recsys import filtering
from recsys.bundle import SourceName
from recsys.exploration import draw
from recsys.retrieval import candidates
from recsys.retrieval.sources import Lists
from recsys.training.questions import Known, Questions
from recsys.types import Source, World
from recsys.users import Users

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
    brought = _Brought.by(world, questions, known, seed)
    told = 0
    best = _recall(brought, chosen)
    recall = {ALL: best}
    while len(chosen) > 1:
        without = {one: _recall(brought, tuple(s for s in chosen if s != one)) for one in chosen if one != KEPT}
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


@dataclass(frozen=True, slots=True, eq=False)
class _Brought:
    """What all sources bring to some questions: read once, put together as often as one likes.

    A list does not depend on which other sources are read, but that vectors are searched under pressure (a quality
    below 1), which questions never have, and how deep the popular one goes alone.

    Attributes:
        batches: Of each its rows, the list of each source, and how many candidates are wanted, int64 [b].
    """

    world: World
    questions: Questions
    known: Known
    seed: int
    batches: list[tuple[np.ndarray, list[Lists], np.ndarray]]

    @classmethod
    def by(cls, world: World, questions: Questions, known: Known, seed: int) -> "_Brought":
        batches = []
        for start in range(0, len(questions), BATCH):
            rows = np.arange(start, min(start + BATCH, len(questions)))
            batch = questions.batch(known, rows, count=1, seed=seed)
            users = Users.of(world, batch)
            eligible, _ = filtering.eligible(world, batch, users)
            drawn, _ = draw(world, batch, eligible)
            wanted = candidates.wanted_candidates(world, batch)
            lists = candidates.read(world, batch, users, eligible, drawn, wanted, depth=candidates.DEPTH)
            batches.append((rows, lists, wanted))
        return cls(world, questions, known, seed, batches)

    def by_one(self, source: SourceName) -> "_Brought":
        """What a source brings alone: read anew, since the popular one then goes as deep as is wanted."""
        recipe = msgspec.structs.replace(self.world.bundle.recipe, sources=(source,))
        world = replace(self.world, bundle=replace(self.world.bundle, recipe=recipe))
        return _Brought.by(world, self.questions, self.known, self.seed)


def _recall(brought: _Brought, sources: tuple[SourceName, ...]) -> float:
    """The share of right answers among the candidates of these sources."""
    of, questions = {Source.NEW, *(Source[name] for name in sources)}, brought.questions
    key, found = brought.world.bundle.vocabulary.key, 0
    for rows, lists, wanted in (brought if len(sources) > 1 else brought.by_one(sources[0])).batches:
        fused = candidates.fused([one for one in lists if one.source in of], wanted)
        found += int(questions.answered(rows, fused.row(), key[fused.item]).sum())
    return found / len(questions.wanted.values)
