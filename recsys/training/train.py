"""From a data set to a publishable bundle: fit, examples, ranker, evaluation; and its files and manifest."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import msgspec
import numpy as np

from recsys.bundle import Bundle, Recipe
from recsys.bundle_files import save
from recsys.datasets.dataset import Dataset
from recsys.errors import TrainingError
from recsys.evaluation.report import Report
from recsys.evaluation.temporal import evaluate
from recsys.features.matrix import FEATURES, NAMES, SCHEMA_HASH
from recsys.features.schema import described
from recsys.manifest import write_manifest
from recsys.ranking.catboost import fit_ranker
from recsys.training.examples import examples
from recsys.training.fit import fit
from recsys.training.log import Known, Log, NextItem
from recsys.types import World

HOLDOUT = 0.2  # newest share of the events: evaluation only
WINDOW = 0.2  # share before it that the ranker learns from, with models of what lies before that
QUESTIONS_PER_USER = 50
EVALUATED_PER_USER = 20
QUESTIONS_MAX = 60_000
NEGATIVES = 60  # of about 200 candidates; chosen for training time, not compared with others

Step = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


def quiet(_name: str, _total: int) -> AbstractContextManager[Callable[[int], None]]:
    """A `Step` that shows nothing."""
    return nullcontext(lambda _done: None)


@dataclass(frozen=True, eq=False)
class Trained:
    """A bundle in memory with what is known of it.

    Attributes:
        report: Its evaluation on the newest events, which no part of it has seen.
        importance: Share of the ranker's score due to each feature, percent.
        window: Times of the first event, the split and the last event, UTC epoch seconds.
        seconds: Time of each step.
        found: Share of training questions whose answer was among the candidates.
    """

    bundle: Bundle
    report: Report
    importance: dict[str, float]
    window: tuple[int, int, int]
    seconds: dict[str, float]
    found: float


def train(dataset: Dataset, recipe: Recipe, *, candidates: int = 200, step: Step = quiet) -> Trained:
    """Train on the older events, evaluate on the newest; what was evaluated is what is returned.

    The ranker learns to order candidates of models that end before its window, as it will meet them in service; the
    returned models are then fitted up to the split.

    Args:
        step: Called with a name and a total; its context gives a function that is told of progress.
    Raises:
        TrainingError: too few events for one of the parts; the message says which.
    """
    log = Log.of(dataset)
    window_s, split_s = log.moment(1 - HOLDOUT - WINDOW), log.moment(1 - HOLDOUT)
    seconds: dict[str, float] = {}
    asked = NextItem.sample(log, start_s=window_s, end_s=split_s, per_user=QUESTIONS_PER_USER, seed=recipe.seed)
    asked = asked.limited(QUESTIONS_MAX, seed=recipe.seed)
    judged = NextItem.sample(log, start_s=split_s, end_s=None, per_user=EVALUATED_PER_USER, seed=recipe.seed)
    judged = judged.limited(QUESTIONS_MAX, seed=recipe.seed)
    judges = len(np.unique(judged.user))
    if not len(asked) or judges < 2:
        raise TrainingError(
            f"too few positives to train and evaluate: {len(asked)} in the ranker's window, {len(judged)} of {judges} "
            "users in the newest fifth (2 are needed); import more interactions, or lower positive_rating"
        )
    with _timed(seconds, "models"), step("Fitting ALS, index and neighbours", 2) as done:
        before = fit(dataset, log, recipe, until_s=window_s)
        done(1)
        fitted = fit(dataset, log, recipe, until_s=split_s)
        done(1)
    with _timed(seconds, "examples"), step("Making point-in-time examples", len(asked)) as done:
        world = World(before, before.item_stats, candidates)
        known = Known.of(log.states_at(asked.user, asked.ts_s))
        made = examples(world, asked, known, negatives=NEGATIVES, seed=recipe.seed, progress=done)
    with _timed(seconds, "ranker"), step("Training the ranker", 1) as done:
        ranker, importance = fit_ranker(
            made.features, made.label, made.group, names=NAMES, trees=recipe.trees, seed=recipe.seed
        )
        done(1)
    bundle = replace(fitted, ranker=ranker)
    with _timed(seconds, "evaluation"), step("Evaluating against baselines", 3 * len(judged)) as done:
        report = evaluate(World(bundle, bundle.item_stats, candidates), log, judged, seed=recipe.seed, progress=done)
    return Trained(
        bundle, report, importance, (int(log.ts_s[0]), split_s, int(log.ts_s[-1])), seconds, made.found / made.asked
    )


def write(trained: Trained, dataset: Dataset, directory: Path, *, code_commit: str, parent: str | None) -> str:
    """Write a trained bundle's files, report and manifest into an empty folder; returns its id."""
    save(trained.bundle, directory)
    (directory / "report.json").write_text(json.dumps(trained.report.to_json(), indent=1), "utf-8")
    (directory / "report.md").write_text(trained.report.markdown(), "utf-8")
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
        "data_window": {"first": first, "split": split, "last": last},
        "feature_schema_hash": SCHEMA_HASH,
        "features": described(FEATURES),
        "vocabulary_hash": trained.bundle.vocabulary.content_hash(),
        "recipe": msgspec.to_builtins(trained.bundle.recipe),
        "metrics": trained.report.to_json(),
        "feature_importance": trained.importance,
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
