"""A softmax over the candidates of a request, linear in features and their roots: the conditional logit of McFadden,
"Conditional Logit Analysis of Qualitative Choice Behavior", 1974.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """Log-odds: the sum over features of plain * x + root * sign(x) sqrt |x|, each x held between two bounds.

    Attributes:
        low, high: float32 [F], bounds; what lies outside was hardly met in training. plain, root: float64 [F].
    """

    low: np.ndarray
    high: np.ndarray
    plain: np.ndarray
    root: np.ndarray

    @classmethod
    def none(cls, features: int) -> "Linear":
        """All candidates alike."""
        zero = np.zeros(features)
        return cls(zero.astype(np.float32), zero.astype(np.float32), zero, zero)

    def terms(self, columns: np.ndarray) -> np.ndarray:
        """What each feature adds to the log-odds, float64 [F, m]. columns: float32 [F, m]."""
        x = np.clip(columns, self.low[:, None], self.high[:, None]).astype(np.float64)
        terms = self.plain[:, None] * x + self.root[:, None] * np.copysign(np.sqrt(np.abs(x)), x)
        return np.where(((self.plain != 0) | (self.root != 0))[:, None], terms, 0.0)

    def share(self, columns: np.ndarray, indptr: np.ndarray, apart: np.ndarray | None = None) -> np.ndarray:
        """How probable each candidate is to be the one of its request that is wanted, float64 [m].

        Args:
            columns: float32 [F, m], rows contiguous. indptr: int64 [b + 1], the cells of each request.
            apart: bool [m], cells that are measured against the others, but count for none of them.
        """
        if apart is None:
            apart = np.zeros(columns.shape[1], bool)
        return _share(columns, indptr, apart, self.low, self.high, self.plain, self.root)


@njit(cache=True)
def _share(
    columns: np.ndarray,
    indptr: np.ndarray,
    apart: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    plain: np.ndarray,
    root: np.ndarray,
) -> np.ndarray:
    odds = np.zeros(columns.shape[1])
    for feature in range(len(columns)):
        a, b = plain[feature], root[feature]
        if a == 0 and b == 0:
            continue
        least, most, column = low[feature], high[feature], columns[feature]
        for cell in range(len(odds)):
            x = np.float64(min(max(column[cell], least), most))
            odds[cell] += a * x + b * np.copysign(np.sqrt(abs(x)), x)
    for row in range(len(indptr) - 1):
        cells = range(indptr[row], indptr[row + 1])
        top, total = -np.inf, 0.0
        for cell in cells:
            if not apart[cell] and np.isfinite(odds[cell]):
                top = max(top, odds[cell])
        for cell in cells:
            counts = not apart[cell] and np.isfinite(odds[cell])
            odds[cell] = np.exp(odds[cell] - top if odds[cell] < top else odds[cell] - odds[cell])  # NaN stays NaN
            if counts:
                total += odds[cell]
        for cell in cells:
            odds[cell] = odds[cell] / total if total > 0 else 0.0
    return odds
