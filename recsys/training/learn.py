"""From a log to a bundle: divide it into lessons, fit the models, choose the sources, teach the ranker.

The ranker learns to order candidates of models that have not seen its questions, as it will meet them in service. So
the log is divided again by the rule of the protocol, and what is left of it once more: two lessons, each with models of
its own, and before them a third, which with the second teaches the rankers that the first chooses from. The bundle's
models are then fitted on all of the log.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from time import monotonic

import msgspec
import numpy as np

from recsys.bundle import Bundle, Recipe
from recsys.datasets.dataset import Dataset
from recsys.errors import TrainingError
from recsys.features.matrix import NAMES
from recsys.ranking.fit import fit_ranker, importance
from recsys.training.choose_als import choose_als
from recsys.training.choose_older import choose_older
from recsys.training.choose_popularity import choose_popularity
from recsys.training.choose_ranker import JUDGED, TAUGHT, choose_ranker
from recsys.training.choose_sources import choose_sources
from recsys.training.examples import Examples, examples
from recsys.training.fit import fit
from recsys.training.leaks import refuse_leaks
from recsys.training.log import Log
from recsys.training.position_bias import PositionBias
from recsys.training.questions import Known, Questions
from recsys.training.splits import Divide, Split
from recsys.training.worth import valued
from recsys.types import World

TAUGHT_PER_USER = 200
TAUGHT_MAX = 20_000  # questions of one lesson
LESSONS = 2  # windows that the ranker learns from, one before the other; a third to choose it: decision 0027
NEGATIVES = 60  # of about 200 candidates; twice as many gave no better lists (decision 0018)

Step = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


def quiet(_name: str, _total: int) -> AbstractContextManager[Callable[[int], None]]:
    """A `Step` that shows nothing."""
    return nullcontext(lambda _done: None)


@dataclass(frozen=True, eq=False)
class Learnt:
    """What was made of a log.

    Attributes:
        importance: Share of the changes of the ranker's score due to each feature, percent.
        recall: Share of the right answers among the candidates, for all sources and without each of them.
        seconds: Time of each step.
        found: Share of the ranker's questions whose answer was among the candidates.
        position_bias: How positions are looked at; None where no impression of the log's time was followed.
    """

    bundle: Bundle
    importance: dict[str, float]
    recall: dict[str, float]
    seconds: dict[str, float]
    found: float
    position_bias: PositionBias | None


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """A division of the log, those of its questions that are put, and what is known there."""

    split: Split
    questions: Questions
    known: Known


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """All but the ranker.

    Attributes:
        worlds: Of each lesson, the models of what lies before it. fitted: Those of all the log, which are published.
    """

    lessons: list[Lesson]
    worlds: list[World]
    fitted: Bundle
    position_bias: PositionBias | None
    seconds: dict[str, float] = field(default_factory=dict)


def learn(
    dataset: Dataset,
    past: Log,
    divide: Divide,
    recipe: Recipe,
    *,
    candidates: int = 200,
    threads: int | None = None,
    step: Step = quiet,
) -> Learnt:
    """A bundle from what may be learnt from, with the sources of the recipe that are worth their candidates.

    `threads` (None: one for each processor) change how long that takes, not a bit of the result.

    Raises:
        TrainingError: too few events for one of the parts.
    """
    models = fit_models(dataset, past, divide, recipe, candidates=candidates, threads=threads, step=step)
    with timed(models.seconds, "sources"), step("Choosing candidate sources", len(recipe.sources)) as done:
        first = models.lessons[0]
        sources, recall = choose_sources(
            models.worlds[0], first.questions, first.known, seed=recipe.seed, progress=done
        )
    recipe = msgspec.structs.replace(models.fitted.recipe, sources=sources)
    taught = teach(models, recipe, threads=threads, step=step)
    return replace(taught, recall=recall)


def fit_models(
    dataset: Dataset,
    past: Log,
    divide: Divide,
    recipe: Recipe,
    *,
    candidates: int = 200,
    threads: int | None = None,
    step: Step = quiet,
) -> Models:
    """The first half of `learn`: lessons, and the models of each and of all the log."""
    past, position_bias = valued(past, dataset.impressions, recipe.objective)
    lessons = _lessons(past, divide, recipe.seed, most=LESSONS + recipe.choose_ranker)
    seconds: dict[str, float] = {}
    with timed(seconds, "models"), step("Fitting ALS, spectrum and neighbours", len(lessons) + 1) as done:
        worlds = []
        for lesson in lessons:
            bundle = fit(dataset, lesson.split.past, recipe, until_s=lesson.split.until_s, threads=threads)
            if recipe.choose_als:  # on the first lesson, for all
                bundle = choose_als(bundle, lesson.split.past, lesson.questions, lesson.known, threads=threads)
            if recipe.choose_older:
                bundle = choose_older(bundle, lesson.questions, lesson.known)
            if recipe.choose_popularity:
                bundle = choose_popularity(bundle, lesson.questions, lesson.known)
            recipe = bundle.recipe
            worlds.append(World(bundle, bundle.item_stats, candidates))
            done(1)
        fitted = fit(dataset, past, recipe, until_s=int(past.ts_s[-1]) + 1, threads=threads)
        done(1)
    return Models(lessons, worlds, fitted, position_bias, seconds)


def teach(models: Models, recipe: Recipe, *, threads: int | None = None, step: Step = quiet) -> Learnt:
    """The second half of `learn`: a ranker for just these sources; the models are those that were fitted."""
    seconds = dict(models.seconds)
    lessons = models.lessons[: LESSONS + recipe.choose_ranker]
    total = sum(len(lesson.questions) for lesson in lessons)
    with timed(seconds, "examples"), step("Making examples as served", total) as done:
        made = [
            _examples(world, lesson.questions, lesson.known, recipe, NEGATIVES, done)
            for world, lesson in zip(models.worlds[: len(lessons)], lessons, strict=True)
        ]
    with timed(seconds, "ranker"), step("Training the ranker", 1) as done:
        if recipe.choose_ranker:
            recipe = choose_ranker(made[1:], *_judge(models, recipe), recipe, threads=threads)
        rows = Examples.concatenate(made[:LESSONS])
        ranker = fit_ranker(
            rows.features, rows.label, rows.group, rows.weight, names=NAMES, recipe=recipe, threads=threads
        )
        shares = importance(ranker, rows.features, rows.group, seed=recipe.seed)
        done(1)
    bundle = replace(models.fitted, recipe=recipe, ranker=ranker)
    return Learnt(bundle, shares, {}, seconds, rows.found / rows.asked, models.position_bias)


def _judge(models: Models, recipe: Recipe) -> tuple[Examples, np.ndarray]:
    """Some questions of the newest lesson, with all their candidates, and who asks them."""
    lesson = models.lessons[0]
    questions = lesson.questions.limited(JUDGED, seed=recipe.seed)
    known = questions.known(lesson.split.history)
    judge = _examples(models.worlds[0], questions, known, recipe, models.worlds[0].candidates, lambda _: None)
    return judge, questions.user


def _examples(
    world: World, questions: Questions, known: Known, recipe: Recipe, negatives: int, progress: Callable[[int], None]
) -> Examples:
    of_recipe = replace(world, bundle=replace(world.bundle, recipe=recipe))
    return examples(of_recipe, questions, known, negatives=negatives, seed=recipe.seed, progress=progress)


def _lessons(past: Log, divide: Divide, seed: int, *, most: int) -> list[Lesson]:
    """At most so many, the newest first; each divides what the one before leaves.

    Raises:
        TrainingError: the first has no question.
    """
    lessons: list[Lesson] = []
    for _ in range(most):
        if not len(past):
            break
        split = divide(past, per_user=TAUGHT_PER_USER, seed=seed)
        questions = split.questions.limited(TAUGHT_MAX if len(lessons) < LESSONS else TAUGHT, seed=seed)
        if not len(questions) or (lessons and not split.past.positive.any()):
            break
        lesson = Lesson(split, questions, questions.known(split.history))
        refuse_leaks(replace(split, questions=questions), lesson.known)
        lessons.append(lesson)
        past = split.past
    if not lessons:
        raise TrainingError(
            "too few positives to teach the ranker: no question is left in its part of the log; import more "
            "interactions, or lower positive_rating"
        )
    return lessons


class timed:
    """Adds the seconds spent inside to a dict."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds, self._name = seconds, name

    def __enter__(self) -> None:
        self._start = monotonic()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._name] = round(monotonic() - self._start, 3)
