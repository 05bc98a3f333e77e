"""Vectors to search in, and what was found beside what is best."""

import numpy as np

from loadtest.invented_vectors import Tastes
from recsys.retrieval.index import Index


def clustered(n: int, d: int, seed: int) -> np.ndarray:
    """Rows around 40 centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(40, d))
    return (centres[rng.integers(40, size=n)] + rng.normal(0, 0.3, size=(n, d))).astype(np.float32)


def invented(n: int, d: int) -> tuple[np.ndarray, Tastes]:
    """Vectors like those of ALS, as long as they are popular."""
    tastes = Tastes.draw(n, seed=1)
    return tastes.vectors(d, seed=1), tastes


def recall(found: np.ndarray, best: np.ndarray) -> float:
    """The share of each query's best rows that was found, in the mean."""
    return float(
        np.mean([len(np.intersect1d(one, other)) / len(other) for one, other in zip(found, best, strict=True)])
    )


def search(index: Index, queries: np.ndarray, k: int, eligible: np.ndarray | None = None) -> np.ndarray:
    """One search a query. eligible: bool [N], all items where None."""
    flags = np.ones(1 << 15, bool) if eligible is None else eligible
    bits = np.packbits(flags, bitorder="little")
    return np.array([index.search(query, k, bits)[0] for query in queries], np.int32).reshape(-1, k)
