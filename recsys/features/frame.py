"""What the features of one micro-batch are computed from."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

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
        bundle = self.world.bundle
        unit = bundle.factors[self.newest_positives] / bundle.factor_norm[self.newest_positives][..., None]
        unit *= (self.newest_positives >= 0)[..., None]
        vectors = np.stack([self.user_vector, unit[:, 0], _mean(unit, self.newest_positives)], axis=1)
        products = self._products(bundle.factors, vectors)
        products[1:] /= bundle.factor_norm[self.candidates.item]
        return products

    @cached_property
    def category_products(self) -> np.ndarray:
        """Each item's category flags times those of the newest positive, and of the ring on average: float32 [2, m]."""
        flags = self.world.bundle.category_flags
        ring = np.where(self.history.positive, self.history.item, -1)
        rows = flags[ring] * (ring >= 0)[..., None]
        newest = flags[self.newest_positives[:, 0]] * (self.newest_positives[:, :1] >= 0)
        return self._products(flags, np.stack([newest, _mean(rows, ring)], axis=1))

    @cached_property
    def newest_positives(self) -> np.ndarray:
        """Rows of the newest positives, newest first, -1 where there are fewer: int32 [b, RECENT]."""
        positive = self.history.positive
        order = np.argsort(~positive, axis=1, kind="stable")[:, :RECENT]
        return np.where(np.take_along_axis(positive, order, 1), np.take_along_axis(self.history.item, order, 1), -1)

    def _products(self, table: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Each cell's row of `table` times its request's vectors: [N, w], [b, v, w] -> float32 [v, m].

        One product a request, never one over the batch: a row of BLAS's result may depend on the shape it is part of.
        """
        rows = table[self.candidates.item]
        indptr = self.candidates.indptr
        result = np.empty((vectors.shape[1], len(rows)), np.float32)
        for vector, start, end in zip(vectors, indptr[:-1], indptr[1:], strict=True):
            result[:, start:end] = vector @ rows[start:end].T
        return result


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


def _mean(rows: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Mean over the slots in use: [b, s, w], [b, s] -> float32 [b, w]; 0 without one."""
    return rows.sum(axis=1, dtype=np.float32) / np.maximum((item >= 0).sum(axis=1), 1)[:, None].astype(np.float32)
