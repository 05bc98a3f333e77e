"""Evaluation on a global temporal split: which positive comes next, all items ranked, seen items masked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import msgspec
import numpy as np

from recsys.evaluation.bootstrap import mean_interval, paired_difference
from recsys.evaluation.metrics import coverage, hit_at_k, ndcg_at_k
from recsys.evaluation.report import Report, Row
from recsys.recommend import Ranked, Retrieved, rank, retrieve, slate
from recsys.training.log import Known, Log, NextItem
from recsys.types import QueryBatch, World

BATCH = 32
LENGTH = 20
PROTOCOL = (
    "Next positive of each user after the split, point in time: the user state holds everything before that moment, "
    "the models nothing after the split; all unseen items compete (no sampled negatives)."
)
_METRICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "NDCG@10": lambda ranks: ndcg_at_k(ranks, 10),
    "Recall@20": lambda ranks: hit_at_k(ranks, 20),
}

Score = Callable[[World, QueryBatch, Retrieved], np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Answers: rank int32 [q] of the right item (-1 absent), lists int32 [q, 10], retrieved bool [q]."""

    rank: np.ndarray
    lists: np.ndarray
    retrieved: np.ndarray


def evaluate(
    world: World,
    log: Log,
    questions: NextItem,
    *,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Compare a bundle with ALS alone and with popularity, each question in the state that the log gives its user."""
    known = Known.of(log.states_at(questions.user, questions.ts_s))
    return compare(world, questions, known, protocol=PROTOCOL, seed=seed, progress=progress)


def compare(
    world: World,
    questions: NextItem,
    known: Known,
    *,
    protocol: str,
    seed: int,
    also: Mapping[str, Known] = MappingProxyType({}),
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Compare a bundle with ALS alone and with popularity, on the same questions.

    Every pipeline runs through `retrieve`, `rank` and `slate`; a baseline is the same world with fewer sources.
    Intervals are 95 % bootstrap intervals over users.

    Args:
        protocol: Goes into the report.
        also: More baselines: the same bundle, knowing something else.
    """
    als = only(world, "ALS", "POPULAR")
    pipelines: dict[str, tuple[World, Score | None, Known]] = {
        "two-stage": (world, None, known),
        "ALS": (als, _als_score, known),
        "popularity": (only(world, "POPULAR"), None, known),
        **{name: (world, None, other) for name, other in also.items()},
    }
    answers = {}
    for name, (of, score, given) in pipelines.items():
        answers[name] = ask(of, questions, given, score=score, seed=seed, progress=progress)
    n = len(world.bundle.vocabulary)
    rows = tuple(
        Row(
            name,
            {m: mean_interval(f(a.rank), questions.user, seed=seed) for m, f in _METRICS.items()},
            coverage(a.lists, n),
        )
        for name, a in answers.items()
    )
    ours = answers["two-stage"]
    differences = {
        f"{m} over {name}": paired_difference(f(ours.rank), f(a.rank), questions.user, seed=seed)
        for m, f in _METRICS.items()
        for name, a in answers.items()
        if a is not ours
    }
    return Report(
        protocol,
        len(questions),
        len(np.unique(questions.user)),
        rows,
        differences,
        float(ours.retrieved.mean()),
    )


def only(world: World, *sources: str) -> World:
    """The same world with some sources only and no ranker."""
    recipe = msgspec.structs.replace(world.bundle.recipe, sources=sources)
    return replace(world, bundle=replace(world.bundle, recipe=recipe, ranker=None))


def _als_score(world: World, batch: QueryBatch, retrieved: Retrieved) -> np.ndarray:
    """ALS alone: inner product with the folded-in vector; users without one keep the order of popularity."""
    candidates = retrieved.candidates
    factors = world.bundle.factors[candidates.item]
    return np.einsum("md,md->m", factors, retrieved.users_of(world, batch).vector[candidates.row()]).astype(np.float64)


def ask(
    world: World,
    questions: NextItem,
    known: Known,
    *,
    score: Score | None = None,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Answers:
    """What a world answers. `score` orders candidates instead of its ranker."""
    q = len(questions)
    ranks, lists, found = np.full(q, -1, np.int32), np.full((q, 10), -1, np.int32), np.zeros(q, bool)
    key = world.bundle.vocabulary.key
    for start in range(0, q, BATCH):
        rows = np.arange(start, min(start + BATCH, q))
        batch = questions.batch(known, rows, count=LENGTH, seed=seed)
        retrieved = retrieve(world, batch)
        ranked = Ranked.by(score(world, batch, retrieved), retrieved) if score else rank(world, batch, retrieved)
        slates = slate(retrieved, ranked, batch.count)
        wanted = questions.key[rows]
        found[rows] = np.bincount(
            retrieved.candidates.row()[key[retrieved.candidates.item] == wanted[retrieved.candidates.row()]],
            minlength=len(rows),
        )
        for i, row in enumerate(rows):
            shown = slates.item[slates.indptr[i] : slates.indptr[i + 1]]
            place = np.flatnonzero(key[shown] == wanted[i])
            ranks[row] = place[0] if len(place) else -1
            lists[row, : len(shown[:10])] = shown[:10]
        progress(len(rows))
    return Answers(ranks, lists, found)
