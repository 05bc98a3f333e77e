"""How much the first events of new users could be worth: what a ranker reaches that was taught by their own answers.

The ranker is trained on the questions of the cold start itself, those of other new users, so it has seen what no
published ranker can: the future of the bundle, and only people of this kind, at just this point. Where even it is
not ahead of popularity, candidates and features hold nothing that a better training of the ranker would bring out.

Users are split into folds, and each is answered by the ranker of the other folds: cross-validation, Hastie, Tibshirani
& Friedman, "The Elements of Statistical Learning", 2009, section 7.10.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from recsys.errors import DatasetError
from recsys.evaluation.answers import ask
from recsys.evaluation.baselines import only
from recsys.evaluation.bootstrap import Interval, mean_interval, paired_difference
from recsys.evaluation.cold_start import FirstEvents, newcomers
from recsys.evaluation.metrics import ndcg_of_hits
from recsys.features.matrix import NAMES
from recsys.ranking.fit import fit_ranker
from recsys.training.examples import examples
from recsys.training.log import Log
from recsys.types import Source, World

CEILING_AT = (1, 3, 5)
FOLDS = 5
NEGATIVES = 60  # as in training


@dataclass(frozen=True)
class Ceiling:
    """NDCG@10 after `known` events, of `users` new users, with 95 % bootstrap intervals over users."""

    known: int
    users: int
    value: Interval
    over_popularity: Interval


def evaluate_ceiling(
    world: World,
    log: Log,
    *,
    since_s: int,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Ceiling]:
    """The ceiling after each of CEILING_AT events; none for a number after which fewer than FOLDS users go on.

    Args:
        since_s: Where the bundle's data end, UTC epoch seconds.
        progress: Told of each of the numbers of events.
    Raises:
        DatasetError: there are too few new users for any of them. TrainingError: a fold teaches nothing.
    """
    users = newcomers(log, since_s)
    points = []
    for known in CEILING_AT:
        asked = FirstEvents.of(log, users, known)
        if len(np.unique(asked.questions.user)) >= FOLDS:
            points.append(_point(world, asked, known, seed))
        progress(1)
    if not points:
        raise DatasetError(f"the imported data has fewer than {FOLDS} users who are new after the bundle's split")
    return points


def _point(world: World, asked: FirstEvents, known: int, seed: int) -> Ceiling:
    questions = asked.questions
    users, number = np.unique(questions.user, return_inverse=True)
    fold = (np.random.default_rng(seed).permutation(len(users)) % FOLDS)[number]
    ours = np.zeros(len(questions))
    recipe = msgspec.structs.replace(world.bundle.recipe, seed=seed)
    for one in range(FOLDS):
        rows, others = np.flatnonzero(fold == one), np.flatnonzero(fold != one)
        made = examples(
            world,
            questions.take(others),
            asked.known.take(others),
            negatives=NEGATIVES,
            seed=seed,
            progress=lambda _: None,
        )
        ranker = fit_ranker(made.features, made.label, made.group, names=NAMES, recipe=recipe)
        of_fold = replace(world, bundle=replace(world.bundle, ranker=ranker))
        taught = ask(of_fold, questions.take(rows), asked.known.take(rows), seed=seed)
        ours[rows] = ndcg_of_hits(taught.hits(10), taught.wanted)
    popular = ask(only(world, Source.POPULAR), questions, asked.known, seed=seed)
    theirs = ndcg_of_hits(popular.hits(10), popular.wanted)
    return Ceiling(
        known,
        len(users),
        mean_interval(ours, questions.user, seed=seed),
        paired_difference(ours, theirs, questions.user, seed=seed),
    )
