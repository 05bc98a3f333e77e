"""Counts by upper bound, as a Prometheus histogram has them.

Ray's own Histogram takes one observation at a time, and the process that exports it replays each of them into its own,
at the middle of its bucket. Here a batch is counted at once, and what leaves the process every few seconds is one
number a bound, however many were counted. Quantiles follow from it for any time and any number of processes.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

INFINITY = "+Inf"


class Histogram:
    """Observations by upper bound; they may be added up over processes and over time.

    Args:
        bounds: Rising; the last bucket, without a bound, is added.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        if any(low >= high for low, high in pairwise(bounds)):
            raise ValueError(f"bounds {list(bounds)} do not rise")
        self._bounds = np.asarray(bounds, np.float64)
        self._bound: list[float] = self._bounds.tolist()
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def count(self, value: float, times: int = 1) -> None:
        """Count one value, so many times. Cost: about 0.2 us."""
        self._counts[bisect_left(self._bound, value)] += times
        self.sum += value * times

    def observe(self, values: np.ndarray) -> None:
        """Count values, float64 [n]. Cost: about 10 us for up to some hundred of them."""
        more = np.bincount(np.searchsorted(self._bounds, values), minlength=len(self._counts)).tolist()
        self._counts = [count + new for count, new in zip(self._counts, more, strict=True)]
        self.sum += float(values.sum())

    def at_most(self) -> Counter[str]:
        """How many values were at or below each bound, by the bound as Prometheus writes it (the label `le`)."""
        names = [*(f"{bound:g}" for bound in self._bound), INFINITY]
        return Counter(dict(zip(names, accumulate(self._counts), strict=True)))
