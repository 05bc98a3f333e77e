"""Which index a catalogue of some size is searched by, and where a bundle keeps it."""

from pathlib import Path

import numpy as np

from recsys.retrieval.band_index import BandIndex
from recsys.retrieval.faiss_index import FaissIndex

Index = FaissIndex | BandIndex

EXACT_MAX = 20_000  # rows; decision 0023


def build_index(factors: np.ndarray, *, seed: int, queries: np.ndarray | None = None) -> Index:
    """Exact up to EXACT_MAX rows that are not 0, beyond that lists by bands of length.

    Args:
        factors: float32 [N, d]. queries: As of `BandIndex.build`.
    """
    if np.count_nonzero(np.any(factors != 0, axis=1)) > EXACT_MAX:
        return BandIndex.build(factors, seed=seed, queries=queries)
    return FaissIndex.build(factors)


def load_index(path: Path) -> Index:
    """Map what an index saved under this name.

    Raises:
        RuntimeError, ValueError, OSError: it is no index of a bundle, or its files do not fit together.
    """
    return BandIndex.load(path) if BandIndex.exists(path) else FaissIndex.load(path)
