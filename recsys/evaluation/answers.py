"""What a world answers to questions."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recsys.recommend import Ranked, Retrieved, rank, retrieve, slate
from recsys.training.questions import Known, Questions
from recsys.types import QueryBatch, World

BATCH = 32
LENGTH = 20  # items asked for

Score = Callable[[World, QueryBatch, Retrieved], np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The lists, and where in them the right answers are; [w] is one value for each of `Questions.wanted`.

    Attributes:
        rank: int32 [w], 0-based place in the list, -1 where it is not there. found: bool [w], among the candidates.
        lists: int32 [q, LENGTH], rows of the bundle, -1 for an empty place.
        wanted: int64 [q], right answers of each question.
    """

    rank: np.ndarray
    found: np.ndarray
    lists: np.ndarray
    wanted: np.ndarray

    def hits(self, k: int, among: np.ndarray | None = None) -> np.ndarray:
        """Whether each of the first k places holds a right answer, bool [q, k]. among: bool [w], those that count."""
        hits = np.zeros((len(self.wanted), k), bool)
        inside = (self.rank >= 0) & (self.rank < k)
        if among is not None:
            inside &= among
        hits[np.repeat(np.arange(len(hits)), self.wanted)[inside], self.rank[inside]] = True
        return hits


def ask(
    world: World,
    questions: Questions,
    known: Known,
    *,
    score: Score | None = None,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Answers:
    """Put questions to `recommend`, stage by stage. `score` orders the candidates instead of the world's ranker."""
    q, wanted = len(questions), questions.wanted
    ranks, found = np.full(len(wanted.values), -1, np.int32), np.zeros(len(wanted.values), bool)
    lists = np.full((q, LENGTH), -1, np.int32)
    row_of_wanted = world.bundle.vocabulary.rows(wanted.values)
    for start in range(0, q, BATCH):
        rows = np.arange(start, min(start + BATCH, q))
        batch = questions.batch(known, rows, count=LENGTH, seed=seed)
        retrieved = retrieve(world, batch)
        ranked = Ranked.by(score(world, batch, retrieved), retrieved) if score else rank(world, batch, retrieved)
        slates = slate(retrieved, ranked, batch.count)
        candidates = retrieved.candidates
        for i, row in enumerate(rows.tolist()):
            shown = slates.item[slates.indptr[i] : slates.indptr[i + 1]]
            lists[row, : len(shown)] = shown
            own = slice(wanted.indptr[row], wanted.indptr[row + 1])
            equal = row_of_wanted[own, None] == shown
            ranks[own] = np.where(equal.any(axis=1), equal.argmax(axis=1), -1)
            among = candidates.item[candidates.indptr[i] : candidates.indptr[i + 1]]
            found[own] = np.isin(row_of_wanted[own], among)
        progress(len(rows))
    return Answers(ranks, found, lists, wanted.lengths())
