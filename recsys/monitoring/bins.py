"""Bins of a number's reference distribution, so that a live value is a place among them."""

import math

import msgspec
import numpy as np

QUANTILES = 6  # bins of equal shares between the least and the greatest value
MARGIN = 0.25  # of the span between these, beyond which a value is out of range
MISSING, DEFAULT, BELOW, ABOVE = "missing", "default", "below range", "above range"


class Bins(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where one number lies: not finite, at its default, below or above all of the reference, or in between.

    Attributes:
        default: The value where nothing is known; None for a number that has none.
        edges: Rising, the least and the greatest value of the reference among them; none where all were at the default.
    """

    default: float | None
    edges: tuple[float, ...]

    @classmethod
    def of(cls, values: np.ndarray, default: float | None = None) -> "Bins":
        """Of a reference, float [n]."""
        values = values[np.isfinite(values)]
        if default is not None:
            values = values[values != np.float32(default)]
        if not len(values):
            return cls(default, ())
        edges = np.unique(np.quantile(values, np.linspace(0, 1, QUANTILES + 1), method="nearest"))
        return cls(default, tuple(float(one) for one in edges))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the bins, in their order; those in between are named by their bounds."""
        between = [f"{low:.4g} to {high:.4g}" for low, high in zip(self.edges[:-1], self.edges[1:], strict=True)]
        if len(self.edges) == 1:
            between = [f"{self.edges[0]:.4g}"]
        return (MISSING, DEFAULT, BELOW, *between, ABOVE)

    @property
    def range(self) -> tuple[float, float]:
        """Below and above which a value is out of range; nothing is where nothing is known."""
        if not self.edges:
            return -math.inf, math.inf
        low, high = self.edges[0], self.edges[-1]
        room = MARGIN * (high - low)
        return low - room, high + room

    def place(self, values: np.ndarray) -> np.ndarray:
        """The bin of each value, float [n] -> int64 [n]."""
        last = len(self.names) - 1
        if not self.edges:  # whatever is not the default is new
            place = np.full(len(values), last, np.int64)
        else:
            low, high = self.range
            place = np.clip(np.searchsorted(self.edges, values, side="right") + 2, 3, last - 1)
            place[values < low], place[values > high] = 2, last
        if self.default is not None:
            place[values == np.float32(self.default)] = 1
        place[~np.isfinite(values)] = 0
        return place

    def shares(self, values: np.ndarray, indptr: np.ndarray) -> np.ndarray:
        """Of each request's cells, the share in each bin: float [m] -> float64 [b, bins]; NaN for one without cells."""
        sizes, count = np.diff(indptr), len(self.names)
        row = np.repeat(np.arange(len(sizes)), sizes)
        counts = np.bincount(row * count + self.place(values), minlength=len(sizes) * count)
        with np.errstate(invalid="ignore"):
            return counts.reshape(len(sizes), count) / sizes[:, None]


def one_of(place: np.ndarray, count: int) -> np.ndarray:
    """1 at each place, 0 elsewhere; NaN rows where the place is below 0. int [n] -> float64 [n, count]."""
    marks = np.zeros((len(place), count))
    marks[np.arange(len(place)), np.maximum(place, 0)] = 1
    marks[place < 0] = np.nan
    return marks
