"""The newest interactions of users in rows of one bundle."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from recsys.features.user import UserStates
from recsys.verbs import IS_POSITIVE
from recsys.vocabulary import lower_bound

if TYPE_CHECKING:
    from recsys.types import World


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """The ring of each user in rows of one bundle, newest first.

    Attributes:
        item: int32 [b, RING], -1 where the slot is empty or the item is not in the bundle.
        positive: bool [b, RING], true only where `item` >= 0.
        distinct: bool [b, RING], the newest positive slot of each item.
        known: bool [b], true where any item is in the bundle.
    """

    item: np.ndarray
    positive: np.ndarray
    distinct: np.ndarray
    known: np.ndarray

    @classmethod
    def of(cls, states: UserStates, world: "World") -> "History":
        """Look the ring's keys up in the world's vocabulary."""
        return cls(*_look_up(world.bundle.vocabulary.key, states.item_key, states.verb, IS_POSITIVE))


@njit(cache=True)
def _look_up(
    key: np.ndarray, ring: np.ndarray, verb: np.ndarray, is_positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    b, h = ring.shape
    item = np.full((b, h), -1, np.int32)
    positive, distinct = np.zeros((b, h), np.bool_), np.zeros((b, h), np.bool_)
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
            positive[row, slot] = is_positive[verb[row, slot]]
            distinct[row, slot] = positive[row, slot] and not _has(item[row, :slot], distinct[row, :slot], place)
    return item, positive, distinct, known


@njit(cache=True)
def _has(item: np.ndarray, distinct: np.ndarray, wanted: int) -> bool:
    for slot in range(len(item)):  # noqa: SIM110  any() of a generator does not compile
        if distinct[slot] and item[slot] == wanted:
            return True
    return False
