"""From a data set to a publishable bundle: divide, fit, choose sources, teach the ranker, evaluate; and its files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from recsys.bundle import Bundle, Recipe
from recsys.bundle_files import save
from recsys.datasets.checks.checks import Checks, check
from recsys.datasets.checks.report import to_json
from recsys.datasets.content import content_hash, counts
from recsys.datasets.dataset import Dataset, Timing
from recsys.errors import TrainingError
from recsys.evaluation.baselines import Pipeline, baselines
from recsys.evaluation.compare import Asked, compare
from recsys.evaluation.report import Report
from recsys.features.matrix import FEATURES, SCHEMA_HASH
from recsys.features.schema import described
from recsys.manifest import write_manifest
from recsys.monitoring.reference import Reference, reference_of
from recsys.training.leaks import refuse_leaks
from recsys.training.learn import Learnt, Step, learn, quiet, timed
from recsys.training.log import Log
from recsys.training.search_report import Search
from recsys.training.splits import DESCRIBED, PROTOCOLS, Split
from recsys.types import World

BY_TIMING: dict[Timing, str] = {"exact": "temporal-next", "order": "leave-one-out", "none": "held-out-items"}
CHAMPION = "champion"
JUDGED_MAX = 60_000
# Of a user's small matrices; shared out among threads they take five times as long where the processors are busy.
ONE_THREAD = {"limits": 1, "user_api": "blas"}


@dataclass(frozen=True, eq=False)
class Trained:
    """A bundle in memory with what is known of it.

    Attributes:
        protocol: How the log was divided, by name.
        report: Its evaluation on what no part of it has seen.
        window: Times of the first event, the end of what was learnt from and the last event, UTC epoch seconds.
        learnt_from: How many events, positives, users and liked items it was fitted on.
        reference: What live lists and events will be compared with.
    """

    learnt: Learnt
    protocol: str
    report: Report
    window: tuple[int, int, int]
    learnt_from: dict[str, int]
    reference: Reference

    @property
    def bundle(self) -> Bundle:
        """What would be published."""
        return self.learnt.bundle


@threadpool_limits.wrap(**ONE_THREAD)
def train(
    dataset: Dataset,
    recipe: Recipe,
    *,
    candidates: int = 200,
    protocol: str | None = None,
    champion: World | None = None,
    diversity: float = 0.05,
    step: Step = quiet,
) -> Trained:
    """Train on a part of the events and evaluate on the rest; what was evaluated is what is returned.

    Args:
        protocol: One of `splits.PROTOCOLS`; by default what the times of the data set allow (BY_TIMING).
        champion: Asked the same questions; it must have learnt nothing of them.
        diversity: Of the lists that live ones will be compared with.
        step: Called with a name and a total; its context gives a function that is told of progress.
    Raises:
        TrainingError: too few events for one of the parts; the message says which.
    """
    log = Log.of(dataset)
    protocol = protocol or BY_TIMING[dataset.timing]
    divide = PROTOCOLS[protocol]
    split = divide(log, seed=recipe.seed, held_out=recipe.held_out)
    judges = len(np.unique(split.questions.user))
    if judges < 2:
        raise TrainingError(
            f"too few positives to evaluate: {len(split.questions)} questions of {judges} users (2 are needed); "
            "import more interactions, lower positive_rating, or hold out more"
        )
    learnt = learn(dataset, split.past, divide, recipe, candidates=candidates, step=step)
    world = World(learnt.bundle, learnt.bundle.item_stats, candidates)
    with timed(learnt.seconds, "evaluation"):
        beside = baselines(world) | ({} if champion is None else {CHAMPION: Pipeline(champion)})
        report = judge(world, split, protocol, beside=beside, seed=recipe.seed, step=step)
    with timed(learnt.seconds, "reference"):
        bias = learnt.position_bias
        looked_at = () if bias is None else tuple(bias.propensity.tolist())
        reference = reference_of(
            world,
            split.questions,
            split.history,
            diversity=diversity,
            seed=recipe.seed,
            examination=looked_at,
            held_out=recipe.held_out,
        )
    window = (int(log.ts_s[0]), split.until_s, int(log.ts_s[-1]))
    return Trained(learnt, protocol, report, window, split.past.counts(), reference)


@threadpool_limits.wrap(**ONE_THREAD)
def judge(
    world: World, split: Split, protocol: str, *, beside: Mapping[str, Pipeline], seed: int, step: Step = quiet
) -> Report:
    """Ask a world the questions of a split, beside other pipelines."""
    asked = split.questions.limited(JUDGED_MAX, seed=seed)
    with step("Evaluating against baselines", (1 + len(beside)) * len(asked)) as done:
        known = asked.known(split.history)
        refuse_leaks(replace(split, questions=asked), known)
        return compare(
            world, Asked(asked, known), protocol=DESCRIBED[protocol], seed=seed, beside=beside, progress=done
        )


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
    trained.reference.save(directory)
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
            "content_hash": content_hash(dataset),
            "archived": dataset.archived,
            "screened_since_ms": dataset.screened_since_ms,
            **counts(dataset),
        },
        "learnt_from": trained.learnt_from,
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
