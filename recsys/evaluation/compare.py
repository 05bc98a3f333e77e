"""One evaluation: a bundle beside its baselines, on the same questions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from recsys.bundle import FLAGS
from recsys.evaluation import metrics
from recsys.evaluation.answers import Answers, ask
from recsys.evaluation.baselines import Pipeline
from recsys.evaluation.bootstrap import mean_interval, paired_difference
from recsys.evaluation.report import Report, Row
from recsys.features.history import History
from recsys.training.questions import Known, Questions
from recsys.types import World

TWO_STAGE = "two-stage"
HEADLINE = "NDCG@10"
LIGHT, HEAVY = 10, 50  # events
HEAD = 0.2  # of the items

METRICS: dict[str, Callable[[Answers], np.ndarray]] = {
    "NDCG@10": lambda a: metrics.ndcg_of_hits(a.hits(10), a.wanted),
    "HR@10": lambda a: metrics.hit_rate(a.hits(10)),
    "Recall@10": lambda a: metrics.recall_of_hits(a.hits(10), a.wanted),
    "NDCG@20": lambda a: metrics.ndcg_of_hits(a.hits(20), a.wanted),
    "Recall@20": lambda a: metrics.recall_of_hits(a.hits(20), a.wanted),
    "MRR@20": lambda a: metrics.reciprocal_rank(a.hits(20)),
    "MAP@10": lambda a: metrics.average_precision(a.hits(10), a.wanted),
}


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Questions, and what is known where each is asked."""

    questions: Questions
    known: Known


def compare(
    world: World,
    asked: Asked,
    *,
    protocol: str,
    seed: int,
    beside: Mapping[str, Pipeline],
    also: Mapping[str, Known] = MappingProxyType({}),
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Compare a bundle with other pipelines, all of them through `retrieve`, `rank` and `slate`.

    Intervals are 95 % bootstrap intervals over users; differences are paired.

    Args:
        protocol: Goes into the report.
        also: The same bundle, knowing something else.
        progress: Told of each question of each pipeline.
    """
    pipelines = [
        (TWO_STAGE, Pipeline(world), asked.known),
        *((name, one, asked.known) for name, one in beside.items()),
        *((name, Pipeline(world), other) for name, other in also.items()),
    ]
    questions = asked.questions
    answers = {
        name: ask(one.world, questions, given, score=one.score, seed=seed, progress=progress)
        for name, one, given in pipelines
    }
    values = {name: {m: of(a) for m, of in METRICS.items()} for name, a in answers.items()}
    user = questions.user
    rows = tuple(
        Row(
            name,
            {m: mean_interval(value, user, seed=seed) for m, value in own.items()},
            beyond_accuracy(one.world, answers[name], given),
        )
        for (name, one, given), own in zip(pipelines, values.values(), strict=True)
    )
    differences = {
        f"{m} over {name}": paired_difference(values[TWO_STAGE][m], own[m], user, seed=seed)
        for m in METRICS
        for name, own in values.items()
        if name != TWO_STAGE
    }
    return Report(
        protocol,
        len(questions),
        len(np.unique(user)),
        rows,
        differences,
        float(answers[TWO_STAGE].found.mean()),
        segments(world, asked, answers),
        kinds=kinds(world, answers[TWO_STAGE]),
    )


def segments(world: World, asked: Asked, answers: Mapping[str, Answers]) -> dict[str, dict[str, float]]:
    """Of the right answers of each segment: how many there are, of how many users, and the share in each first ten.

    Users by the events known of them; items by their positives in what the bundle learnt from.
    """
    wanted = asked.questions.wanted
    user, events = asked.questions.user[wanted.rows()], asked.known.states.events[wanted.rows()]
    row = world.bundle.vocabulary.rows(wanted.values)
    popularity = np.where(row >= 0, world.bundle.item_stats.popularity[row], 0)
    head = np.quantile(world.bundle.item_stats.popularity, 1 - HEAD)
    parts = {
        "users, nothing known": events == 0,
        "users, 1 to 9 events": (events > 0) & (events < LIGHT),
        f"users, {LIGHT} to {HEAVY - 1} events": (events >= LIGHT) & (events < HEAVY),
        f"users, {HEAVY} events or more": events >= HEAVY,
        "items, most popular fifth": (popularity > head) & (popularity > 0),
        "items, the others": (popularity <= head) & (popularity > 0),
        "items that nobody liked yet": popularity == 0,
    }
    return {
        name: {"answers": float(part.sum()), "users": float(len(np.unique(user[part])))}
        | {one: float(((a.rank >= 0) & (a.rank < 10))[part].mean()) for one, a in answers.items()}
        for name, part in parts.items()
        if part.any()
    }


def kinds(world: World, answers: Answers) -> dict[str, dict[str, int]]:
    """Of the FLAGS most frequent categories, the most frequent first: items, and different ones in a first ten."""
    bundle, first = world.bundle, answers.lists[:, :10]
    came_up = np.zeros(len(bundle.vocabulary), bool)
    came_up[first[first >= 0]] = True
    size = bundle.category_item.lengths()
    return {
        bundle.category_name[one]: {"items": int(size[one]), "shown": int(came_up[bundle.category_item[one]].sum())}
        for one in np.argsort(-size, kind="stable")[:FLAGS].tolist()
    }


def beyond_accuracy(world: World, answers: Answers, known: Known) -> dict[str, float]:
    """What the first ten of the lists do to the catalogue, to variety and, with categories, to what is liked."""
    lists, bundle = answers.lists[:, :10], world.bundle
    history = History.of(known.states, world)
    flags = (bundle.category_flags(np.arange(len(bundle.vocabulary))) > 0).astype(np.float32)
    liked = np.where(history.positive, history.item, -1)
    n = len(bundle.vocabulary)
    share = flags / np.maximum(flags.sum(axis=1, keepdims=True), 1)
    of_categories = {"miscalibration": metrics.miscalibration(lists, liked, share)} if flags.any() else {}
    return {
        "coverage": metrics.coverage(lists, n),
        "Gini": metrics.exposure_gini(lists, n),
        "novelty": metrics.novelty(lists, bundle.item_stats.popularity),
        "diversity": metrics.intra_list_diversity(lists, bundle.spectral.vector),
        **of_categories,
    }
