"""The population stability index: how far a distribution has moved."""

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri

# Siddiqi, "Credit Risk Scorecards", Wiley 2006: below 0.1 no significant change, from 0.25 on a major one.
DRIFT, STRONG = 0.1, 0.25
CHANCE = 0.001  # that the index passes `noise` though nothing has moved; there are seven of them in each report


@dataclass(frozen=True, slots=True)
class Stability:
    """An index and what to hold it against.

    Attributes:
        index: Sum over bins of (q - p) ln(q / p), at least 0.
        noise: What it passes with a probability of CHANCE though nothing has moved.
        moved: The bin that adds most to it. earlier, later: Its shares, 0 to 1.
    """

    index: float
    noise: float
    moved: int
    earlier: float
    later: float

    @property
    def drifted(self) -> bool:
        """A change of note that is more than chance."""
        return self.index >= DRIFT and self.index > self.noise


def stability(earlier: np.ndarray, later: np.ndarray, sizes: tuple[float, float]) -> Stability:
    """Compare two histograms over the same bins.

    Bins that are empty in both are left out; half an event is added to each other one, so that the logarithm is
    finite. Where nothing has moved, the index over (1/n + 1/m) has a chi-square distribution with one degree of
    freedom less than there are bins: Yurdakul, "Statistical Properties of Population Stability Index", dissertation,
    Western Michigan University, 2018.

    Args:
        earlier, later: float or int [bins], counts or weights.
        sizes: n and m, independent observations in each; see `independent`.
    """
    bins = np.flatnonzero((earlier > 0) | (later > 0))
    if len(bins) < 2:
        return Stability(0.0, 0.0, int(bins[0]) if len(bins) else 0, 1.0, 1.0)
    p, q = (_shares(count[bins]) for count in (earlier, later))
    terms = (q - p) * np.log(q / p)
    top = int(terms.argmax())
    noise = float(chdtri(len(bins) - 1, CHANCE)) * sum(1 / max(size, 1.0) for size in sizes)
    return Stability(float(terms.sum()), noise, int(bins[top]), float(p[top]), float(q[top]))


def independent(user: np.ndarray) -> float:
    """How many independent observations the events of these users are worth. user: int [n].

    Events of one user are alike, so they are not n but (sum of events)^2 / (sum of squared events per user), the
    effective size of a sample with unequal weights: Kish, "Survey Sampling", Wiley 1965.
    """
    count = np.bincount(user).astype(np.float64)
    return float(count.sum() ** 2 / (count @ count)) if len(user) else 0.0


def _shares(count: np.ndarray) -> np.ndarray:
    return (count + 0.5) / (count.sum() + 0.5 * len(count))
