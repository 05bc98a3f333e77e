"""Lists of vectors for maximum inner product search, and which of them can hold the best answers to a query.

Inverted lists of a k-means over raw vectors fail where lengths differ, as those of ALS do with popularity: the largest
inner products belong to long vectors, which lie scattered over all lists. So vectors are first divided into bands by
length, each holding half of what is left, and k-means divides each band; a list then holds vectors of like length and
direction. A list is read for the most that it may hold, not for its mean alone:

    q . mean + REACH * |q| * deviation,

the mean and REACH standard deviations of the inner products of its vectors, were they spread alike in all directions.

Source: the bands are those of norm-ranging LSH, Yan et al., "Norm-ranging LSH for maximum inner product search",
NeurIPS 2018, there of equal size and hashed.
"""

from dataclasses import dataclass

import faiss
import numpy as np
from numba import njit

REACH = 2.0  # measured: with 0, 1, 2, 3 the same recall takes 26, 1.4, 1 and 1.05 times as many vectors
_ITERATIONS = 6  # of k-means
_TAUGHT = 64  # vectors per list that k-means learns from


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """A division of vectors.

    Attributes:
        of: int64 [n], the list of each vector.
        mean: float32 [l, d]. deviation: float32 [l], root of the mean squared distance to the mean along an axis.
    """

    of: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray


def divide(vectors: np.ndarray, *, seed: int) -> Lists:
    """About 2 sqrt(n) lists of sqrt(n) / 2 vectors. vectors: float32 [n, d], n at least 1.

    The same seed and thread count give the same lists. Cost: a minute of two cores for a million vectors of 64
    dimensions.
    """
    size = max(1, int(np.sqrt(len(vectors)) / 2))
    longest_last = np.argsort(np.einsum("nd,nd->n", vectors, vectors), kind="stable")
    of = np.empty(len(vectors), np.int64)
    made, rest = 0, longest_last
    while len(rest):
        half = len(rest) // 2 if len(rest) >= 4 * size else len(rest)
        band, rest = rest[:half], rest[half:]
        count = max(1, len(band) // size)
        of[band] = made + _clusters(vectors[band], count, seed + made)
        made += count
    return _described(vectors, of)


def _clusters(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    if count == 1:
        return np.zeros(len(vectors), np.int64)
    means = faiss.Kmeans(
        vectors.shape[1],
        count,
        niter=_ITERATIONS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=_TAUGHT,
    )
    means.train(vectors)
    return means.index.search(vectors, 1)[1][:, 0]


def _described(vectors: np.ndarray, of: np.ndarray) -> Lists:
    """Means and deviations of what is in the lists; those left empty are dropped."""
    used, of = np.unique(of, return_inverse=True)
    size = np.bincount(of, minlength=len(used))
    by_list = np.argsort(of, kind="stable")
    start = np.cumsum(size) - size
    mean = (np.add.reduceat(vectors[by_list], start, axis=0, dtype=np.float64) / size[:, None]).astype(np.float32)
    squared = np.bincount(of, np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64), len(used)) / size
    squared -= np.einsum("ld,ld->l", mean, mean, dtype=np.float64)
    deviation = np.sqrt(np.maximum(squared, 0) / vectors.shape[1]).astype(np.float32)
    return Lists(of.astype(np.int64), mean, deviation)


@njit(cache=True, fastmath={"reassoc", "contract", "nsz"})  # as in `features.products`
def most_promising(mean: np.ndarray, reach: np.ndarray, vector: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the `count` lists that promise most for one query, in their order; of equals the first.

    Args:
        mean: float32 [l, d]. reach: float32 [l], REACH deviations. vector: float32 [d]. count: At most l.
    Returns:
        int64 [count].
    """
    length = np.float32(0)
    for place in range(len(vector)):
        length += vector[place] * vector[place]
    length = np.sqrt(length)
    promise = np.empty(len(mean), np.float32)
    for one in range(len(mean)):
        total = np.float32(0)
        for place in range(len(vector)):
            total += mean[one, place] * vector[place]
        promise[one] = total + reach[one] * length
    least = np.partition(promise, len(promise) - count)[len(promise) - count]
    equals = count
    for one in range(len(promise)):
        equals -= promise[one] > least
    chosen, found = np.empty(count, np.int64), 0
    for one in range(len(promise)):
        if promise[one] > least or (promise[one] == least and equals > 0):
            equals -= promise[one] == least
            chosen[found] = one
            found += 1
    return chosen
