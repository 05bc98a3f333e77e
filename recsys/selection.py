"""The only place that reorders: the best `count` of each request."""

import numpy as np

from recsys.types import CandidateSet


def select(candidates: CandidateSet, score: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Cells of each request's list, best first.

    Equal scores keep the order of the candidates; a score that is not finite sorts last, so that no broken value can
    take a place.

    Args:
        candidates: CandidateSet [m]. score: float64 [m]. count: int32 [b].
    Returns:
        int64 [t], cells grouped by request; request `i` has min(count[i], its candidates) of them.
    """
    worth = np.where(np.isfinite(score), score, -np.inf)
    chosen = [
        start + np.argsort(-worth[start:end], kind="stable")[:k]
        for start, end, k in zip(candidates.indptr[:-1], candidates.indptr[1:], count, strict=True)
    ]
    return np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
