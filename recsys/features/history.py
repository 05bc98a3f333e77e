"""The newest interactions of users in rows of one bundle."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from recsys.features.user import UserStates
from recsys.verbs import WEIGHT
from recsys.vocabulary import lower_bound

if TYPE_CHECKING:
    from recsys.types import World


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """The ring of each user in rows of one bundle, newest first.

    Attributes:
        item: int32 [b, RING], -1 where the slot is empty or the item is not in the bundle.
        positive: bool [b, RING], true only where `item` >= 0.
        weight: float32 [b, RING], at the newest positive slot of each item the most that one of its slots weighs
            (`recsys.verbs.WEIGHT`); 0 elsewhere.
        known: bool [b], true where any item is in the bundle.
    """

    item: np.ndarray
    positive: np.ndarray
    weight: np.ndarray
    known: np.ndarray

    @classmethod
    def of(cls, states: UserStates, world: "World") -> "History":
        """Look the ring's keys up in the world's vocabulary."""
        return cls(*_look_up(world.bundle.vocabulary.key, states.item_key, states.verb, WEIGHT))


def recency(newest: int, decay: float, b: int) -> np.ndarray:
    """What each of the newest interactions counts, the last one 1: float32 [b, newest]."""
    step = np.float32(decay) ** np.arange(newest, dtype=np.float32)
    return np.broadcast_to(step, (b, newest))


@njit(cache=True)
def _look_up(
    key: np.ndarray, ring: np.ndarray, verb: np.ndarray, verb_weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    b, h = ring.shape
    item = np.full((b, h), -1, np.int32)
    positive, weight = np.zeros((b, h), np.bool_), np.zeros((b, h), np.float32)
    known = np.zeros(b, np.bool_)
    for row in range(b):
        for slot in range(h):
            if ring[row, slot] == 0:
                continue
            place = lower_bound(key, ring[row, slot])
            if place == len(key) or key[place] != ring[row, slot]:
                continue
            item[row, slot] = place
            known[row] = True
            weighs = verb_weight[verb[row, slot]]
            if weighs > 0:
                positive[row, slot] = True
                newest = _newest(item[row, :slot], weight[row, :slot], place)
                weight[row, newest] = max(weight[row, newest], weighs)
    return item, positive, weight, known


@njit(cache=True)
def _newest(item: np.ndarray, weight: np.ndarray, wanted: int) -> int:
    """The slot that has an item's weight already; else the one after the last."""
    for slot in range(len(item)):
        if weight[slot] > 0 and item[slot] == wanted:
            return slot
    return len(item)
