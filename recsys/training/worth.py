"""What each right answer is worth to the ranker: of which kind it was, and how likely it was to be seen at all."""

from dataclasses import replace

import numpy as np

from recsys.datasets.impressions import Impressions
from recsys.errors import TrainingError
from recsys.training.attribution import attributed
from recsys.training.log import Log
from recsys.training.position_bias import PositionBias
from recsys.verbs import EVENT_TYPES, WEIGHT, Objective


def valued(log: Log, impressions: Impressions | None, objective: Objective) -> tuple[Log, PositionBias | None]:
    """The log with what each positive is worth: its verb's worth / the propensity of its position.

    Args:
        impressions: Only those before the end of the log count. Without one that was followed by a positive, positions
            are not known to matter, and no positive is weighed by its own.
        objective: Worth of a view, click, like and purchase by name, 1 where it is not named. A verb of one's own is
            worth its weight.
    Raises:
        TrainingError: nothing in the log is worth anything.
    """
    worth = worth_by_verb(objective)[log.verb]
    if log.positive.any() and not worth[log.positive].any():
        raise TrainingError(
            "the setting `objective` gives every positive that there is a worth of 0; raise one of them"
        )
    bias = None
    if impressions is not None and len(log):
        shown = impressions.until((int(log.ts_s[-1]) + 1) * 1000)
        source = attributed(log, shown)
        follows = source >= 0
        if follows.any():
            click = np.zeros(len(shown), bool)
            click[source[follows]] = True
            bias = PositionBias.fit(shown.position, shown.item, click)
            position = log.position.copy()
            position[follows] = shown.position[source[follows]]
            worth = np.where(log.positive, worth * bias.weight(position), worth).astype(np.float32)
    return replace(log, worth=worth), bias


def worth_by_verb(objective: Objective) -> np.ndarray:
    """By verb, float32 [256]; 0 for verbs that are no positives."""
    worth = WEIGHT.copy()
    for name, value in objective.items():
        worth[EVENT_TYPES[name]] = value
    return worth
