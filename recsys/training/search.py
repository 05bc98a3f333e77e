"""One trial of a hyper-parameter search: how good is a recipe, judged without what the report will be about.

The past is divided once more, by the rule that divided the log. A trial learns from what is left and answers the
questions in between through the stages of `recommend`, as evaluation does.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from recsys.bundle import Recipe
from recsys.datasets.dataset import Dataset, Events
from recsys.errors import TrainingError
from recsys.evaluation.answers import ask
from recsys.evaluation.bootstrap import paired_difference
from recsys.evaluation.metrics import ndcg_of_hits
from recsys.features.matrix import SCHEMA_HASH
from recsys.training.learn import learn
from recsys.training.log import Log
from recsys.training.questions import Known, Questions
from recsys.training.search_report import Winner
from recsys.training.search_space import Space, Value, space_hash
from recsys.training.splits import HELD_OUT, PROTOCOLS
from recsys.training.train import BY_TIMING
from recsys.types import World

ASKED = 3000  # questions: at an NDCG@10 of .14 the mean has a standard error of about .005, paired differences of less


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """What every trial learns from and is asked.

    Attributes:
        dataset: The catalogue and what was shown. It has no events: what is held out for the report is not in here.
        past: What trials learn from. protocol: The name of the rule by which it is divided.
        questions, known: What they are asked, and what is known there.
        candidates: Ranked per question.
    """

    dataset: Dataset
    past: Log
    protocol: str
    questions: Questions
    known: Known
    candidates: int

    @classmethod
    def of(
        cls, dataset: Dataset, *, candidates: int, seed: int, protocol: str | None = None, held_out: float = HELD_OUT
    ) -> "Validation":
        """Divide the past that `train` would learn from, given the same protocol, seed and share held out.

        Raises:
            TrainingError: too few events for a validation of their own.
        """
        protocol = protocol or BY_TIMING[dataset.timing]
        divide = PROTOCOLS[protocol]
        outer = divide(Log.of(dataset), seed=seed, held_out=held_out)
        users = 0
        if len(outer.past):
            inner = divide(outer.past, seed=seed)
            users = len(np.unique(inner.questions.user))
        if users < 2:
            raise TrainingError(
                "too few positives to search with: the past, divided once more, asks fewer than 2 users; import more "
                "interactions, or train without --budget"
            )
        questions = inner.questions.limited(ASKED, seed=seed)
        return cls(
            _without_events(dataset, outer.until_s),
            inner.past,
            protocol,
            questions,
            questions.known(inner.history),
            candidates,
        )

    def key(self, base: Recipe, space: Space) -> str:
        """The name of the search that this makes with a recipe and a space: data, protocol and a digest of all else."""
        digest = hashlib.sha256()
        shown = self.dataset.impressions
        parts: list[Any] = [SCHEMA_HASH, self.dataset.fingerprint, self.candidates, space_hash(space)]
        digest.update(msgspec.json.encode([*parts, msgspec.to_builtins(base)], order="deterministic"))
        asked, states = self.questions, self.known.states
        columns = [getattr(self.past, name) for name in Log.__slots__]
        columns += [asked.user, asked.now_s, asked.wanted.indptr, asked.wanted.values]
        columns += [self.known.excluded.values, states.events]
        columns += [] if shown is None else [shown.user, shown.item, shown.ts_ms, shown.position]
        for column in columns:
            digest.update(np.ascontiguousarray(column).data)
        return f"{self.dataset.fingerprint[:12]}-{self.protocol}-{digest.hexdigest()[:12]}"


def trial(validation: Validation, recipe: Recipe, *, threads: int | None = None) -> np.ndarray:
    """NDCG@10 of each validation question under a recipe, float64 [q]; the same whatever the number of threads.

    Raises:
        TrainingError: the recipe or the data teach nothing.
    """
    divide = PROTOCOLS[validation.protocol]
    learnt = learn(
        validation.dataset, validation.past, divide, recipe, candidates=validation.candidates, threads=threads
    )
    world = World(learnt.bundle, learnt.bundle.item_stats, validation.candidates)
    answers = ask(world, validation.questions, validation.known, seed=recipe.seed)
    return ndcg_of_hits(answers.hits(10), answers.wanted)


def winner(values: dict[str, Value], ndcg: np.ndarray, default: np.ndarray, user: np.ndarray, *, seed: int) -> Winner:
    """A trial beside the default recipe's. ndcg, default: float64 [q]; user: int [q]."""
    difference = paired_difference(ndcg, default, user, seed=seed)
    return Winner(values, float(ndcg.mean()), float(default.mean()), difference)


def _without_events(dataset: Dataset, until_s: int) -> Dataset:
    none = Events(*(getattr(dataset.events, name)[:0] for name in Events.__annotations__))
    shown = dataset.impressions
    return replace(dataset, events=none, place=None, impressions=None if shown is None else shown.until(until_s * 1000))
