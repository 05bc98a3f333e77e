"""What the features of one micro-batch are computed from."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from recsys.features.products import newest_means, products
from recsys.features.user import UserStates
from recsys.verbs import is_positive

RECENT = 5  # newest positives in "recent" means

if TYPE_CHECKING:
    from recsys.types import CandidateSet, World


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """The ring of each user in rows of one bundle, newest first.

    Attributes:
        item: int32 [b, RING], -1 where the slot is empty or the item is not in the bundle.
        positive: bool [b, RING], true only where `item` >= 0.
        distinct: bool [b, RING], the newest positive slot of each item.
    """

    item: np.ndarray
    positive: np.ndarray
    distinct: np.ndarray

    @classmethod
    def of(cls, states: UserStates, world: "World") -> "History":
        """Look the ring's keys up in the world's vocabulary."""
        item = world.bundle.vocabulary.rows(states.item_key)
        positive = is_positive(states.verb) & (item >= 0)
        return cls(item, positive, _without_repeats(item, positive))


@dataclass(frozen=True, eq=False)
class Frame:
    """Inputs of all features of a micro-batch of `b` users and `m` candidate cells.

    Attributes:
        world: The bundle and item stats.
        states: UserStates [b].
        now_s: int64 [b], UTC epoch seconds.
        history: `states` in rows of the bundle.
        user_vector: float32 [b, d], folded in; 0 where there is no positive.
        candidates: CandidateSet [m].
    """

    world: "World"
    states: UserStates
    now_s: np.ndarray
    history: History
    user_vector: np.ndarray
    candidates: "CandidateSet"

    @cached_property
    def factor_products(self) -> np.ndarray:
        """Products with the user vector; cosines to the newest positive and to RECENT of them: float32 [3, m]."""
        bundle, history, candidates = self.world.bundle, self.history, self.candidates
        last, recent = newest_means(bundle.factors, bundle.factor_scale, history.item, history.positive, RECENT)
        vectors = np.stack([self.user_vector, last, recent], axis=1)
        result = products(bundle.factors, vectors, candidates.indptr, candidates.item)
        result[1:] *= bundle.factor_scale[candidates.item]
        return result

    @cached_property
    def category_products(self) -> np.ndarray:
        """Each item's category flags times those of the newest positive, and of the ring on average: float32 [2, m]."""
        flags, history, candidates = self.world.bundle.category_flags, self.history, self.candidates
        one = np.ones(len(flags), np.float32)
        last, ring = newest_means(flags, one, history.item, history.positive, history.item.shape[1])
        return products(flags, np.stack([last, ring], axis=1), candidates.indptr, candidates.item)


@njit(cache=True)
def _without_repeats(item: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """`positive` without slots whose item is in a newer positive slot."""
    distinct = positive.copy()
    for row in range(item.shape[0]):
        for slot in range(item.shape[1]):
            for newer in range(slot):
                if distinct[row, newer] and item[row, newer] == item[row, slot]:
                    distinct[row, slot] = False
                    break
    return distinct
