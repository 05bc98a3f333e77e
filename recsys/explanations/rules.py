"""The rules that decide about a list beside the scores: which of them were in force, and the request without them."""

from collections.abc import Collection
from dataclasses import replace
from enum import StrEnum

import numpy as np

from recsys.types import QueryBatch, Ragged


class Rule(StrEnum):
    """What can keep an item off a list that its score would put there."""

    DIVERSITY = "diversity"
    POPULARITY_DAMPING = "popularity_damping"
    QUOTAS = "quotas"
    EXPLORATION = "exploration"


def in_force(batch: QueryBatch, explored: np.ndarray) -> list[Rule]:
    """The rules of a request, alone in its batch; explored: int32 [1], as of `Retrieved`."""
    controls, found = batch.controls, []
    if controls is not None:
        found += [Rule.DIVERSITY] if controls.diversity[0] > 0 else []
        found += [Rule.POPULARITY_DAMPING] if controls.popularity_damping[0] > 0 else []
        found += [Rule.QUOTAS] if len(controls.quota_category[0]) else []
    return [*found, Rule.EXPLORATION] if explored[0] >= 0 else found


def without_rules(batch: QueryBatch, rules: Collection[Rule]) -> QueryBatch:
    """The same requests, for which some rules do not count."""
    zero = np.zeros(len(batch), np.float32)
    if Rule.EXPLORATION in rules:
        batch = replace(batch, explore=zero)
    controls = batch.controls
    if controls is None:
        return batch
    if Rule.DIVERSITY in rules:
        controls = replace(controls, diversity=zero)
    if Rule.POPULARITY_DAMPING in rules:
        controls = replace(controls, popularity_damping=zero)
    if Rule.QUOTAS in rules:
        none = Ragged.empty(len(batch), np.int32)
        controls = replace(controls, quota_category=none, quota_most=none)
    return replace(batch, controls=controls)
