"""How widely first lists are spread over the catalogue: different items, and the share of what is popular anyway.

Of each user the first list alone: so users are what is drawn, and what is held of them is bounded. Scores are not
compared: those of two models have nothing in common but their order.
"""

import math
from typing import NamedTuple

import numpy as np

from recsys.experiments.effects import Effect, Side, effect
from recsys.experiments.outcomes import Outcomes
from recsys.experiments.sequential import LEAST, NORMAL

FIRST_LOOK = 200  # users of each side; then at twice as many, and so on
HEAD = 0.5  # the head: the fewest items that take this share of the places


class Coverage(NamedTuple):
    """Different items that a variant shows, as a share of those that the control shows as many users.

    Attributes:
        ratio: NaN before anybody came. low, high: Hold the truth at all looks together; before the first 0 and
            infinity.
        users: Of each side, at the last look.
    """

    ratio: float
    low: float
    high: float
    users: int


def coverage(outcomes: Outcomes, variant: int, *, alpha: float) -> Coverage:
    """Different items in the first lists of as many users of either side.

    A number of different items is no mean, so no interval for all times fits it. It is looked at whenever there are
    twice as many users, the j-th time with 6 / (pi j)^2 of alpha, which add up to alpha. Its variance is at most the
    sum over users of the squared number of items that nobody else was shown (Efron and Stein, "The Jackknife Estimate
    of Variance", Annals of Statistics 9(3), 1981).
    """
    fewest = min(outcomes.users()[variant], outcomes.users()[0])
    look = int(math.log2(fewest / FIRST_LOOK)) if fewest >= FIRST_LOOK else -1
    users = FIRST_LOOK * 2**look if look >= 0 else fewest
    (own, of_own), (control, of_control) = (_distinct(outcomes, one, users) for one in (variant, 0))
    if not own or not control:
        return Coverage(0.0 if control else math.nan, 0.0, math.inf, users)
    if look < 0:
        return Coverage(own / control, 0.0, math.inf, users)
    part = alpha * 6 / (math.pi * (look + 1)) ** 2
    wide = NORMAL.inv_cdf(1 - part / 2) * math.sqrt(of_own / own**2 + of_control / control**2)  # of the logarithm
    ratio = own / control
    return Coverage(ratio, ratio * math.exp(-wide), ratio * math.exp(wide), users)


def head_share(outcomes: Outcomes, variant: int, *, planned: int, alpha: float) -> Effect:
    """What a variant does to the share of a list that is of the head; arguments as of `effects.effect`.

    The head is what the first LEAST users of the control were shown most; it is settled then, and they count no
    further.
    """
    reference = np.flatnonzero(outcomes.variant == 0)[:LEAST]
    known = outcomes.items[0][np.isin(outcomes.owners[0], reference)]
    items, counts = np.unique(known, return_counts=True)
    order = np.lexsort((items, -counts))
    head = items[order[: int(np.searchsorted(np.cumsum(counts[order]), HEAD * len(known))) + 1]]
    sides = []
    for one in (0, variant):
        rows = np.flatnonzero(outcomes.variant == one)
        rows = rows[~np.isin(rows, reference)]
        places = np.bincount(outcomes.owners[one], minlength=len(outcomes.variant))[rows]
        of_head = outcomes.owners[one][np.isin(outcomes.items[one], head)]
        found = np.bincount(of_head, minlength=len(outcomes.variant))[rows]
        sides.append(Side(found / np.maximum(places, 1), np.ones(len(rows)), outcomes.before[rows]))
    return effect(*sides, planned=planned, alpha=alpha)


def _distinct(outcomes: Outcomes, variant: int, users: int) -> tuple[int, float]:
    """Different items in the lists of the first users of a variant, and the variance of that number at most."""
    rows = np.flatnonzero(outcomes.variant == variant)[:users]
    shown = np.isin(outcomes.owners[variant], rows)
    pairs = np.unique(np.stack([outcomes.items[variant][shown], outcomes.owners[variant][shown]]), axis=1)
    items, first, seen_by = np.unique(pairs[0], return_index=True, return_counts=True)
    alone = np.unique(pairs[1][first[seen_by == 1]], return_counts=True)[1].astype(np.float64)
    return len(items), float((alone**2).sum())
