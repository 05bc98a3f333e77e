"""Lists of vectors for maximum inner product search.

Inverted lists of a k-means over raw vectors fail where lengths differ, as those of ALS do with popularity: the largest
inner products belong to long vectors, which lie scattered over all lists. So vectors are first divided into bands by
length, each holding half of what is left, and k-means divides each band; a list then holds vectors of like length and
direction. What a list may hold for a query q is told by its mean and by some times its deviation:

    q . mean + |q| * deviation

is the mean and one standard deviation of the inner products of its vectors, were they spread alike in all directions.

Source: the bands are those of norm-ranging LSH, Yan et al., "Norm-ranging LSH for maximum inner product search",
NeurIPS 2018, there of equal size and hashed.
"""

from dataclasses import dataclass

import faiss
import numpy as np

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
