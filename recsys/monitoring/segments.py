"""Users by how much is known of them: what is one distribution for all may be three that only change places."""

import numpy as np

from recsys.evaluation.compare import HEAVY, LIGHT

ALL = "all"
SEGMENTS = ("new", "light", "heavy")  # 0 to 9 interactions, 10 to 49, 50 or more


def segment_of(known: np.ndarray) -> np.ndarray:
    """Number of the segment of users with so many interactions, int64 [b] -> int64 [b]."""
    return (known >= LIGHT).astype(np.int64) + (known >= HEAVY)
