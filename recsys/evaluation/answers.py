"""What a world answers to questions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recsys.recommend import Ranked, Retrieved, rank, retrieve, slate
from recsys.training.questions import Known, Questions
from recsys.types import Controls, QueryBatch, Ragged, Slates, World

BATCH = 32
LENGTH = 20  # items asked for

Score = Callable[[World, QueryBatch, Retrieved], np.ndarray]
Control = Callable[[int], Controls | None]  # the controls of a batch of so many


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
    return ask_under(world, questions, known, [lambda _: None], score=score, seed=seed, progress=progress)[0]


def ask_under(
    world: World,
    questions: Questions,
    known: Known,
    controls: Sequence[Control],
    *,
    score: Score | None = None,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Answers]:
    """As `ask`, once for each of several controls; of the stages only selection runs more than once."""
    q, wanted = len(questions), questions.wanted
    found = np.zeros(len(wanted.values), bool)
    ranks = [np.full(len(wanted.values), -1, np.int32) for _ in controls]
    lists = [np.full((q, LENGTH), -1, np.int32) for _ in controls]
    row_of = Ragged(wanted.indptr, world.bundle.vocabulary.rows(wanted.values))
    for start in range(0, q, BATCH):
        rows = np.arange(start, min(start + BATCH, q))
        batch = questions.batch(known, rows, count=LENGTH, seed=seed)
        retrieved = retrieve(world, batch)
        ranked = Ranked.by(score(world, batch, retrieved), retrieved) if score else rank(world, batch, retrieved)
        candidates = retrieved.candidates
        for i, row in enumerate(rows.tolist()):
            own = slice(wanted.indptr[row], wanted.indptr[row + 1])
            among = candidates.item[candidates.indptr[i] : candidates.indptr[i + 1]]
            found[own] = np.isin(row_of.values[own], among)
        for place, control in enumerate(controls):
            slates = slate(world, replace(batch, controls=control(len(batch))), retrieved, ranked)
            _note(slates, rows, row_of, ranks[place], lists[place])
        progress(len(rows))
    return [Answers(of, found, shown, wanted.lengths()) for of, shown in zip(ranks, lists, strict=True)]


def _note(slates: Slates, rows: np.ndarray, wanted: Ragged, ranks: np.ndarray, lists: np.ndarray) -> None:
    """Enter the lists of some questions, and the places of their right answers, rows of the bundle."""
    for i, row in enumerate(rows.tolist()):
        shown = slates.item[slates.indptr[i] : slates.indptr[i + 1]]
        lists[row, : len(shown)] = shown
        own = slice(wanted.indptr[row], wanted.indptr[row + 1])
        equal = wanted.values[own, None] == shown
        if len(shown):
            ranks[own] = np.where(equal.any(axis=1), equal.argmax(axis=1), -1)
