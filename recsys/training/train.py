"""From a data set to a publishable bundle: divide, fit, choose sources, teach the ranker, evaluate; and its files."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import msgspec
import numpy as np

from recsys.bundle import Bundle, Recipe
from recsys.bundle_files import save
from recsys.datasets.checks.checks import Checks, check
from recsys.datasets.checks.report import to_json
from recsys.datasets.dataset import Dataset, Timing
from recsys.errors import TrainingError
from recsys.evaluation.baselines import Pipeline, baselines
from recsys.evaluation.compare import Asked, compare
from recsys.evaluation.report import Report
from recsys.features.matrix import FEATURES, NAMES, SCHEMA_HASH
from recsys.features.schema import described
from recsys.manifest import write_manifest
from recsys.ranking.catboost import fit_ranker
from recsys.training.choose_sources import choose_sources
from recsys.training.examples import Examples, examples
from recsys.training.fit import fit
from recsys.training.log import Log
from recsys.training.position_bias import PositionBias
from recsys.training.questions import Known, Questions
from recsys.training.search_report import Search
from recsys.training.splits import DESCRIBED, PROTOCOLS, Divide, Split
from recsys.training.worth import valued
from recsys.types import World

BY_TIMING: dict[Timing, str] = {"exact": "temporal-next", "order": "leave-one-out", "none": "held-out-items"}
TAUGHT_PER_USER = 200
TAUGHT_MAX = 20_000  # questions of one lesson
CHAMPION = "champion"
LESSONS = 2  # windows that the ranker learns from, one before the other: decision 0018
JUDGED_MAX = 60_000
NEGATIVES = 60  # of about 200 candidates; chosen for training time, not compared with others

Step = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


def quiet(_name: str, _total: int) -> AbstractContextManager[Callable[[int], None]]:
    """A `Step` that shows nothing."""
    return nullcontext(lambda _done: None)


@dataclass(frozen=True, eq=False)
class Learnt:
    """What was made of a log.

    Attributes:
        importance: Share of the ranker's score due to each feature, percent.
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


@dataclass(frozen=True, eq=False)
class Trained:
    """A bundle in memory with what is known of it.

    Attributes:
        protocol: How the log was divided, by name.
        report: Its evaluation on what no part of it has seen.
        window: Times of the first event, the end of what was learnt from and the last event, UTC epoch seconds.
    """

    learnt: Learnt
    protocol: str
    report: Report
    window: tuple[int, int, int]

    @property
    def bundle(self) -> Bundle:
        """What would be published."""
        return self.learnt.bundle


def train(
    dataset: Dataset,
    recipe: Recipe,
    *,
    candidates: int = 200,
    protocol: str | None = None,
    champion: World | None = None,
    step: Step = quiet,
) -> Trained:
    """Train on a part of the events and evaluate on the rest; what was evaluated is what is returned.

    Args:
        protocol: One of `splits.PROTOCOLS`; by default what the times of the data set allow (BY_TIMING).
        champion: Asked the same questions; it must have learnt nothing of them.
        step: Called with a name and a total; its context gives a function that is told of progress.
    Raises:
        TrainingError: too few events for one of the parts; the message says which.
    """
    log = Log.of(dataset)
    protocol = protocol or BY_TIMING[dataset.timing]
    divide = PROTOCOLS[protocol]
    split = divide(log, seed=recipe.seed)
    judges = len(np.unique(split.questions.user))
    if judges < 2:
        raise TrainingError(
            f"too few positives to evaluate: {len(split.questions)} questions of {judges} users (2 are needed); "
            "import more interactions, or lower positive_rating"
        )
    learnt = learn(dataset, split.past, divide, recipe, candidates=candidates, step=step)
    world = World(learnt.bundle, learnt.bundle.item_stats, candidates)
    with _timed(learnt.seconds, "evaluation"):
        beside = baselines(world) | ({} if champion is None else {CHAMPION: Pipeline(champion)})
        report = judge(world, split, protocol, beside=beside, seed=recipe.seed, step=step)
    return Trained(learnt, protocol, report, (int(log.ts_s[0]), split.until_s, int(log.ts_s[-1])))


def judge(
    world: World, split: Split, protocol: str, *, beside: Mapping[str, Pipeline], seed: int, step: Step = quiet
) -> Report:
    """Ask a world the questions of a split, beside other pipelines."""
    asked = split.questions.limited(JUDGED_MAX, seed=seed)
    with step("Evaluating against baselines", (1 + len(beside)) * len(asked)) as done:
        known = asked.known(split.history)
        return compare(
            world, Asked(asked, known), protocol=DESCRIBED[protocol], seed=seed, beside=beside, progress=done
        )


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
    """A bundle from what may be learnt from.

    The ranker learns to order candidates of models that have not seen its questions, as it will meet them in service:
    the log is divided again by the same rule, and what is left of it once more. The returned models are then fitted on
    all of it. `threads` (None: one for each processor) change how long that takes, not a bit of the result.

    Raises:
        TrainingError: too few events for one of the parts.
    """
    seconds: dict[str, float] = {}
    past, position_bias = valued(past, dataset.impressions, recipe.objective)
    lessons = _lessons(past, divide, recipe.seed)
    with _timed(seconds, "models"), step("Fitting ALS, spectrum and neighbours", len(lessons) + 1) as done:
        worlds = []
        for lesson in lessons:
            bundle = fit(dataset, lesson.split.past, recipe, until_s=lesson.split.until_s, threads=threads)
            worlds.append(World(bundle, bundle.item_stats, candidates))
            done(1)
        fitted = fit(dataset, past, recipe, until_s=int(past.ts_s[-1]) + 1, threads=threads)
        done(1)
    with _timed(seconds, "sources"), step("Choosing candidate sources", len(recipe.sources)) as done:
        first = lessons[0]
        sources, recall = choose_sources(worlds[0], first.questions, first.known, seed=recipe.seed, progress=done)
    recipe = msgspec.structs.replace(recipe, sources=sources)
    with (
        _timed(seconds, "examples"),
        step("Making examples as served", sum(len(one.questions) for one in lessons)) as done,
    ):
        made = [
            examples(
                replace(world, bundle=replace(world.bundle, recipe=recipe)),
                one.questions,
                one.known,
                negatives=NEGATIVES,
                seed=recipe.seed,
                progress=done,
            )
            for world, one in zip(worlds, lessons, strict=True)
        ]
    with _timed(seconds, "ranker"), step("Training the ranker", 1) as done:
        rows = Examples.concatenate(made)
        ranker, importance = fit_ranker(
            rows.features, rows.label, rows.group, rows.weight, names=NAMES, recipe=recipe, threads=threads
        )
        done(1)
    bundle = replace(fitted, recipe=recipe, ranker=ranker)
    return Learnt(bundle, importance, recall, seconds, rows.found / rows.asked, position_bias)


@dataclass(frozen=True, slots=True, eq=False)
class _Lesson:
    """A division of the log, those of its questions that are put, and what is known there."""

    split: Split
    questions: Questions
    known: Known


def _lessons(past: Log, divide: Divide, seed: int) -> list[_Lesson]:
    """The newest first; each divides what the one before leaves.

    Raises:
        TrainingError: the first has no question.
    """
    lessons: list[_Lesson] = []
    for _ in range(LESSONS):
        if not len(past):
            break
        split = divide(past, per_user=TAUGHT_PER_USER, seed=seed)
        questions = split.questions.limited(TAUGHT_MAX, seed=seed)
        if not len(questions) or (lessons and not split.past.positive.any()):
            break
        lessons.append(_Lesson(split, questions, questions.known(split.history)))
        past = split.past
    if not lessons:
        raise TrainingError(
            "too few positives to teach the ranker: no question is left in its part of the log; import more "
            "interactions, or lower positive_rating"
        )
    return lessons


def write(
    trained: Trained,
    dataset: Dataset,
    directory: Path,
    *,
    code_commit: str,
    parent: str | None,
    checks: Checks | None = None,
    search: Search | None = None,
) -> str:
    """Write a trained bundle's files, reports and manifest into an empty folder; returns its id.

    Args:
        checks: Of this data set, where they were made before. search: What found the recipe, where it was searched for.
    """
    save(trained.bundle, directory)
    (directory / "data_checks.json").write_text(to_json(checks or check(dataset), rows=False), "utf-8")
    searched = {"search": search and search.to_json()}
    (directory / "report.json").write_text(json.dumps(trained.report.to_json() | searched, indent=1), "utf-8")
    section = f"\n{search.markdown()}" if search else ""
    (directory / "report.md").write_text(trained.report.markdown() + section, "utf-8")
    first, split, last = (_utc(at) for at in trained.window)
    fields = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "parent": parent,
        "code_commit": code_commit,
        "dataset": {
            "name": dataset.name,
            "title": dataset.title,
            "synthetic": dataset.synthetic,
            "fingerprint": dataset.fingerprint,
            "attribution": dataset.attribution,
        },
        "protocol": trained.protocol,
        "data_window": {"first": first, "split": split, "last": last},
        "feature_schema_hash": SCHEMA_HASH,
        "features": described(FEATURES),
        "vocabulary_hash": trained.bundle.vocabulary.content_hash(),
        "recipe": msgspec.to_builtins(trained.bundle.recipe),
        **searched,
        "metrics": trained.report.to_json(),
        "feature_importance": trained.learnt.importance,
        "candidate_recall": trained.learnt.recall,
        "position_bias": None if trained.learnt.position_bias is None else trained.learnt.position_bias.to_json(),
    }
    return write_manifest(directory, fields=fields).id


def _utc(ts_s: int) -> str:
    return datetime.fromtimestamp(ts_s, UTC).isoformat()


class _timed:
    """Adds the seconds spent inside to a dict."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds, self._name = seconds, name

    def __enter__(self) -> None:
        self._start = monotonic()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._name] = round(monotonic() - self._start, 3)
