"""The events of a log that stand behind one cell of a table of neighbours, or behind one item.

Weights are made again from just these events by the formulas of `recsys.retrieval.neighbours`, so what is shown is all
that there was: the weight in the bundle is the weight that they give.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from recsys.retrieval.neighbours import BACKWARD, FOLLOWING, FOLLOWING_DECAY, NEARBY, NEARBY_DECAY, PRIOR
from recsys.training.log import Log

Table = Literal["transitions", "nearby", "similar"]
_SEQUENCES = {"transitions": (FOLLOWING, FOLLOWING_DECAY, 0.0), "nearby": (NEARBY, NEARBY_DECAY, BACKWARD)}


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """What ties an item to another.

    Attributes:
        weight: Of the cell, made from the events. users: How many of them met both.
        rows: int64 [p, 2], places in the log of the one and of the other, pair by pair, by the time of the later.
    """

    weight: float
    users: int
    rows: np.ndarray


def pair(log: Log, table: Table, cause: int, item: int) -> Pair:
    """What ties an item to a cause in a table that was made from a log. cause, item: item keys."""
    if table == "similar":
        return _both(log, cause, item)
    window, decay, backward = _SEQUENCES[table]
    of_both = np.intersect1d(log.user[log.key == cause], log.user[log.key == item])
    places = np.flatnonzero(np.isin(log.user, of_both))
    places = places[np.argsort(log.user[places], kind="stable")]
    user, key, positive = log.user[places], log.key[places], log.positive[places]
    at = np.flatnonzero(key == cause)
    found, total = [np.zeros((0, 2), np.int64)], 0.0
    for gap in range(1, window + 1):
        for step, share in ((gap, 1.0), (-gap, backward)):
            to = at + step
            inside = (to >= 0) & (to < len(key)) & (share > 0)
            of, to = at[inside], to[inside]
            met = (user[of] == user[to]) & (key[to] == item) & positive[to]
            found.append(np.stack([places[of[met]], places[to[met]]], axis=1))
            total += share * decay ** (gap - 1) * int(met.sum())
    rows = np.concatenate(found)
    occurrences, positives = int((log.key == cause).sum()), int(((log.key == item) & log.positive).sum())
    weight = total / np.sqrt((occurrences + PRIOR) * (positives + PRIOR))
    return _by_time(log, rows, weight)


def positives_of(log: Log, item: int) -> np.ndarray:
    """Places of the positives of an item, by time: int64 [p]. item: its key."""
    return np.flatnonzero((log.key == item) & log.positive)


def _both(log: Log, cause: int, item: int) -> Pair:
    """As `neighbours.co_occurrence`: each user counts once, by 1 / the different items that they liked."""
    ones, others = positives_of(log, cause), positives_of(log, item)
    first = {one: np.unique(log.user[rows], return_index=True) for one, rows in ((cause, ones), (item, others))}
    shared, here, there = np.intersect1d(first[cause][0], first[item][0], return_indices=True)
    rows = np.stack([ones[first[cause][1][here]], others[first[item][1][there]]], axis=1)
    liked = log.positive & np.isin(log.user, shared)
    distinct = np.unique(np.stack([log.user[liked].astype(np.uint64), log.key[liked]], axis=1), axis=0)
    taken = np.unique(distinct[:, 0], return_counts=True)[1]
    weight = float((1 / taken).sum()) / np.sqrt(max(len(first[cause][0]) * len(first[item][0]), 1))
    return _by_time(log, rows, weight)


def _by_time(log: Log, rows: np.ndarray, weight: float) -> Pair:
    rows = rows[np.argsort(rows.max(axis=1), kind="stable")]
    return Pair(float(weight), len(np.unique(log.user[rows[:, 1]])), rows)
