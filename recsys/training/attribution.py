"""Which impression an interaction came from."""

import numpy as np

from recsys.datasets.impressions import MAX_POSITION, Impressions
from recsys.training.log import Log

ATTRIBUTED_S = 1800  # from impression to interaction: half an hour without an event is where a visit is taken to end


def attributed(log: Log, impressions: Impressions) -> np.ndarray:
    """The impression that each positive of a log followed, int64 [e]; -1 where there is none.

    It is the newest one of the item for the user in the ATTRIBUTED_S before the positive; where the log says from which
    position the item was taken, the newest one there.
    """
    found = np.full(len(log), -1)
    if not len(impressions):  # all were shown after the end of the log
        return found
    taken, shown = _pairs(log.user, log.item), _pairs(impressions.user, impressions.item)
    taken, shown = np.split(np.unique(np.concatenate([taken, shown]), return_inverse=True)[1], [len(taken)])
    taken_s, shown_s = log.ts_s.astype(np.int64), impressions.ts_ms // 1000
    for from_position in (False, True):
        rows = np.flatnonzero(log.positive & ((log.position > 0) == from_position))
        found[rows] = _newest(
            taken[rows] * (MAX_POSITION + 1) + log.position[rows],
            taken_s[rows],
            shown * (MAX_POSITION + 1) + (impressions.position if from_position else 0),
            shown_s,
        )
    return found


def _pairs(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    return user.astype(np.int64) << 32 | item


def _newest(taken: np.ndarray, taken_s: np.ndarray, shown: np.ndarray, shown_s: np.ndarray) -> np.ndarray:
    """For each that was taken, the place of the newest one shown that has the same number and is not too old, or -1."""
    number = np.unique(np.concatenate([shown, taken]), return_inverse=True)[1].astype(np.int64)
    at = number << 32 | np.concatenate([shown_s, taken_s])  # seconds since 1970 have 32 bits until 2106
    order = np.argsort(at[: len(shown)], kind="stable")
    place = np.searchsorted(at[: len(shown)][order], at[len(shown) :], side="right") - 1
    newest = order[np.maximum(place, 0)]
    same = (place >= 0) & (number[newest] == number[len(shown) :])
    return np.where(same & (taken_s - shown_s[newest] <= ATTRIBUTED_S), newest, -1)
