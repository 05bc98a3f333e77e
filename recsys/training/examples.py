"""Training examples of the ranker: real questions, candidates from `retrieve()`, features as served."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recsys.recommend import features, retrieve
from recsys.training.log import Known, NextItem
from recsys.types import World

BATCH = 64


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Rows for the ranker.

    Attributes:
        features: float32 [m, F]. label: float32 [m]. group: int64 [m], the question of each row.
        asked: Questions put. found: Of these, those whose answer was among the candidates.
    """

    features: np.ndarray
    label: np.ndarray
    group: np.ndarray
    asked: int
    found: int


def examples(
    world: World, questions: NextItem, known: Known, *, negatives: int, seed: int, progress: Callable[[int], None]
) -> Examples:
    """Candidates of each question, labelled by whether the item was the one chosen next.

    A question whose answer was not retrieved teaches nothing about order and is left out. `negatives` of the other
    candidates are kept, drawn uniformly: that scales the pairwise loss of a question, not the order it prefers.

    No leak, if the world holds events before the questions' window only and `known` those before each question only.
    """
    rng = np.random.default_rng(seed)
    matrices, labels, groups = [], [], []
    found = 0
    for start in range(0, len(questions), BATCH):
        rows = np.arange(start, min(start + BATCH, len(questions)))
        batch = questions.batch(known, rows, count=1, seed=seed)
        retrieved = retrieve(world, batch)
        row = retrieved.candidates.row()
        label = world.bundle.vocabulary.key[retrieved.candidates.item] == questions.key[rows][row]
        has = np.bincount(row[label], minlength=len(rows)) > 0
        found += int(has.sum())
        size = np.diff(retrieved.candidates.indptr)
        keep = has[row] & (label | (rng.random(len(row)) < negatives / np.maximum(size[row], 1)))
        matrices.append(features(world, batch, retrieved)[keep])
        labels.append(label[keep])
        groups.append(rows[row[keep]])
        progress(len(rows))
    return Examples(
        np.concatenate(matrices) if matrices else np.zeros((0, 0), np.float32),
        np.concatenate(labels).astype(np.float32) if labels else np.zeros(0, np.float32),
        np.concatenate(groups) if groups else np.zeros(0, np.int64),
        len(questions),
        found,
    )
