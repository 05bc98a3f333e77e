"""Training examples of the ranker: real questions, candidates from `retrieve()`, features as served."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.recommend import features, retrieve
from recsys.training.questions import Known, Questions
from recsys.types import World

BATCH = 64
_APART = 1 << 32  # between the numbers of groups of different parts


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Rows for the ranker.

    Attributes:
        features: float32 [m, F]. label: float32 [m]. group: int64 [m], the question of each row.
        weight: float32 [m], what the row counts for in the loss.
        asked: Right answers of all questions. found: Of these, those that were among the candidates.
    """

    features: np.ndarray
    label: np.ndarray
    group: np.ndarray
    weight: np.ndarray
    asked: int
    found: int

    @classmethod
    def concatenate(cls, parts: Sequence["Examples"]) -> "Examples":
        """Several below one another; those without a row, whose width is not known, add their counts only."""
        some = [part for part in parts if len(part.label)] or list(parts[:1])
        group = [part.group + number * _APART for number, part in enumerate(some)]
        return cls(
            np.concatenate([part.features for part in some]),
            np.concatenate([part.label for part in some]),
            np.concatenate(group),
            np.concatenate([part.weight for part in some]),
            sum(part.asked for part in parts),
            sum(part.found for part in parts),
        )


def examples(
    world: World, questions: Questions, known: Known, *, negatives: int, seed: int, progress: Callable[[int], None]
) -> Examples:
    """Candidates of each question, labelled by whether the item is a right answer.

    A question of which no answer was retrieved teaches nothing about order and is left out. `negatives` of the other
    candidates are kept, drawn uniformly: that scales the pairwise loss of a question, not the order it prefers.

    A right answer weighs what it is worth, and the other candidates of its question the mean of what its found answers
    weigh: a question whose answer is worth 3 counts like three questions. So the ranker minimises the sum of worth x
    loss over answers, which Joachims, Swaminathan & Schnabel (WSDM 2017) show to be unbiased where the worth is 1 /
    propensity. As a label the worth would enter a squared loss with its square: few large ones would be most of it,
    and trees would be spent on how large it is, not on the order. An answer that is worth nothing is left out.

    No leak, if nothing that the world was fitted on is asked, and `known` holds what came before each question only.
    """
    rng = np.random.default_rng(seed)
    matrices, labels, groups, weights = [], [], [], []
    found = 0
    for start in range(0, len(questions), BATCH):
        rows = np.arange(start, min(start + BATCH, len(questions)))
        batch = questions.batch(known, rows, count=1, seed=seed)
        retrieved = retrieve(world, batch)
        row = retrieved.candidates.row()
        worth = questions.worth_of(rows, row, world.bundle.vocabulary.key[retrieved.candidates.item])
        label = ~np.isnan(worth)
        found += int(label.sum())
        answers = np.bincount(row[worth > 0], minlength=len(rows))
        mean = np.bincount(row[worth > 0], worth[worth > 0], minlength=len(rows)) / np.maximum(answers, 1)
        size = np.diff(retrieved.candidates.indptr)
        drawn = rng.random(len(row)) < negatives / np.maximum(size[row], 1)
        keep = (answers[row] > 0) & np.where(label, worth > 0, drawn)
        matrices.append(features(world, batch, retrieved)[keep])
        labels.append(label[keep])
        groups.append(rows[row[keep]])
        weights.append(np.where(label, worth, mean[row])[keep])
        progress(len(rows))
    return Examples(
        np.concatenate(matrices) if matrices else np.zeros((0, 0), np.float32),
        np.concatenate(labels).astype(np.float32) if labels else np.zeros(0, np.float32),
        np.concatenate(groups) if groups else np.zeros(0, np.int64),
        np.concatenate(weights).astype(np.float32) if weights else np.zeros(0, np.float32),
        len(questions.wanted.values),
        found,
    )
