"""How far a mean may be from the reference: what the reference itself is unsure of, and what does not matter."""

import math

import numpy as np
from scipy.special import ndtri

from recsys.monitoring.evidence import Tolerance

LEAST_USERS = 30  # of a reference; fewer are too few to compare with
# A change that nobody need hear of, as a share of the mean and added to it. The customary threshold of the population
# stability index, 0.1, is passed where a mean of every second bin changes by a third.
MATTERS = {
    "feature": (0.3, 0.03),
    "item": (1.0, 0.1),  # features of items alone: a reference has one snapshot of them, and each hour has another
    "source": (0.2, 0.03),
    "score": (0.3, 0.03),
    "list": (0.15, 0.05),
    "users": (0.25, 0.05),
    "events": (0.2, 0.05),
    "traffic": (0.0, 0.1),
    "freshness": (0.0, 0.2),
    "quality": (0.05, 0.02),
}


def tolerance_of(
    kind: str, mean: np.ndarray, error: np.ndarray, clusters: int | np.ndarray, *, alpha: float
) -> Tolerance:
    """The means that are no drift.

    Args:
        mean, error: float64 [K], of the reference and its standard error; NaN mean: nothing is claimed.
        clusters: How many independent ones the reference is made of, of each component or of all.
        alpha: Probability that any of the K true means is farther from the reference's than is allowed for.
    """
    relative, absolute = MATTERS[kind]
    k = len(mean)
    unsure = -float(ndtri(alpha / (2 * k))) * error
    unsure = np.maximum(unsure, math.log(2 * k / alpha) / np.maximum(clusters, 1) * (error == 0))  # never seen: 3 / n
    allowed = unsure + relative * mean + absolute
    return Tolerance(mean - allowed, mean + allowed, mean)
