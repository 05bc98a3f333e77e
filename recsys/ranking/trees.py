"""Symmetric decision trees as four arrays, evaluated by compiled code.

CatBoost trains them (`recsys.ranking.catboost`). Its own `predict` takes 328 us for the 200 rows of one request and
620 us for 1,600, with 200 trees; this evaluation takes 34 us and 257 us and gives the same bits. The arrays are mapped
like all others of a bundle, so serving runs no model parser.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

DEPTH = 6  # of the arrays that training makes; a shallower tree is filled up
_BLOCK = 256  # rows per pass: their leaf numbers stay in the first-level cache


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """T trees of depth D over F features.

    Attributes:
        feature: int32 [T, D] and border: float32 [T, D]: split k of a tree asks whether feature > border, and its
            answer is bit k of the leaf number. A shallower tree is filled up with borders of infinity.
        leaf: float64 [T, 2^D].
        bias: Added to every sum.
    """

    feature: np.ndarray
    border: np.ndarray
    leaf: np.ndarray
    bias: float

    @classmethod
    def mean(cls, parts: Sequence["Trees"]) -> "Trees":
        """The trees of all parts, whose sum is the mean of the parts' sums."""
        feature, border, leaf = (
            np.concatenate([getattr(one, name) for one in parts]) for name in ("feature", "border", "leaf")
        )
        return cls(feature, border, leaf / len(parts), sum(one.bias for one in parts) / len(parts))

    def __len__(self) -> int:
        return len(self.feature)

    @property
    def depth(self) -> int:
        """D."""
        return self.feature.shape[1]

    def first(self, count: int) -> "Trees":
        """What boosting had after so many trees; of trees that are no mean."""
        return Trees(self.feature[:count], self.border[:count], self.leaf[:count], self.bias)

    def sum(self, columns: np.ndarray) -> np.ndarray:
        """Of each row, float64 [m]. columns: float32 [F, m], rows contiguous. Cost: 0.8 ns a row and tree."""
        return _evaluate(columns, self.feature, self.border, self.leaf, self.bias)


@njit(cache=True)
def _evaluate(
    columns: np.ndarray, feature: np.ndarray, border: np.ndarray, leaf: np.ndarray, bias: float
) -> np.ndarray:
    m = columns.shape[1]
    trees, depth = feature.shape
    score = np.full(m, bias)
    number = np.empty(_BLOCK, np.int32)
    for start in range(0, m, _BLOCK):
        rows = min(_BLOCK, m - start)
        for tree in range(trees):
            number[:rows] = 0
            for split in range(depth):
                column = columns[feature[tree, split], start : start + rows]
                above, bit = border[tree, split], np.int32(1 << split)
                for row in range(rows):
                    number[row] += bit if column[row] > above else np.int32(0)
            leaves = leaf[tree]
            for row in range(rows):
                score[start + row] += leaves[number[row]]
    return score
