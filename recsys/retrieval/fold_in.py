"""A user's vector from their recent positives, at request time: the closed-form user half-step of implicit ALS.

Source: Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008, eq. 4, with the
same confidence for every positive.
"""

import numpy as np
from numba import njit
from scipy.linalg.lapack import sposv


def fold_in(
    factors: np.ndarray, gram: np.ndarray, item: np.ndarray, positive: np.ndarray, *, alpha: float
) -> np.ndarray:
    """User vectors that the trained model would have given these histories.

    Args:
        factors: float32 [N, d] item factors.
        gram: float32 [d, d], factors' Gram matrix plus the regularisation on its diagonal.
        item: int32 [b, h], rows of the bundle, -1 allowed where `positive` is false.
        positive: bool [b, h]; an item counts as often as it is marked, so mark it once, as training does.
        alpha: Confidence of a positive is 1 + alpha.
    Returns:
        float32 [b, d]; 0 for users without a positive. Row `i` depends on row `i` alone, bit for bit, since each
        user's product and solution are LAPACK/BLAS calls of their own, of one fixed shape.
    Cost: one [h, d] product and one d x d solution a user; 26 to 66 us of CPU here at h = d = 64.
    """
    known, total = _gather(factors, item, positive)
    a = np.matmul(known.transpose(0, 2, 1), known)
    a *= np.float32(alpha)
    a += gram
    b = total * np.float32(1 + alpha)
    vectors = np.empty_like(b)
    for i in range(len(b)):
        # Positive definite: a Cholesky solution, 13 us against 33 us for the LU of np.linalg.solve.
        vectors[i] = sposv(a[i].T, b[i], lower=1, overwrite_a=1)[1]
    return vectors


@njit(cache=True)
def _gather(factors: np.ndarray, item: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The factors of the positives, one a slot and 0 elsewhere, float32 [b, h, d], and their sum, float32 [b, d]."""
    b, h = item.shape
    d = factors.shape[1]
    known, total = np.zeros((b, h, d), np.float32), np.zeros((b, d), np.float32)
    for row in range(b):
        for slot in range(h):
            if positive[row, slot]:
                for k in range(d):
                    known[row, slot, k] = factors[item[row, slot], k]
                    total[row, k] += known[row, slot, k]
    return known, total
