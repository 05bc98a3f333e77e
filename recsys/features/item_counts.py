"""What has happened to items: counters that events change, and the snapshot of item stats that follows from them."""

from dataclasses import dataclass

import numpy as np
from numba import njit

from recsys.features.item import by_falling
from recsys.types import ItemStats
from recsys.verbs import is_positive

RATE_PRIOR = 20.0  # interactions' worth of the mean that an item's positive rate starts from
HALF_LIFE_S = np.array([86_400.0, 30 * 86_400.0, 365 * 86_400.0], np.float32)  # the windows of popularity


@dataclass(slots=True, eq=False)
class ItemCounts:
    """Counters of `n` items, by key.

    Attributes:
        key: uint64 [n], strictly ascending.
        interactions, positives: uint32 [n].
        activity: float64 [n, 3], positives decayed at HALF_LIFE_S, as of `activity_s`.
        activity_s: uint32 [n], UTC epoch seconds.
    """

    key: np.ndarray
    interactions: np.ndarray
    positives: np.ndarray
    activity: np.ndarray
    activity_s: np.ndarray

    @classmethod
    def empty(cls) -> "ItemCounts":
        """Nothing has happened yet."""
        none = np.zeros(0, np.uint32)
        return cls(np.zeros(0, np.uint64), none, none.copy(), np.zeros((0, len(HALF_LIFE_S))), none.copy())

    def __len__(self) -> int:
        return len(self.key)

    def apply(self, *, item_key: np.ndarray, verb: np.ndarray, ts_s: np.ndarray) -> None:
        """Count events, one after the other: the same events in the same order give the same bits, however divided.

        Args:
            item_key: uint64 [e]. verb: uint8 [e]. ts_s: uint32 [e], UTC epoch seconds; an event older than the item's
                last one counts as much as it would have by then.
        """
        self._make_room(item_key)
        row = np.searchsorted(self.key, item_key)
        _count(
            row, is_positive(verb), ts_s, HALF_LIFE_S, self.interactions, self.positives, self.activity, self.activity_s
        )

    def _make_room(self, item_key: np.ndarray) -> None:
        key = np.union1d(self.key, item_key)
        if len(key) == len(self.key):
            return
        place = np.searchsorted(key, self.key)
        for name in ("interactions", "positives", "activity", "activity_s"):
            old = getattr(self, name)
            new = np.zeros((len(key), *old.shape[1:]), old.dtype)
            new[place] = old
            setattr(self, name, new)
        self.key = key

    def stats(self, vocabulary_key: np.ndarray, *, now_s: int, version: str, unavailable: np.ndarray) -> ItemStats:
        """The snapshot for the items of one bundle.

        Args:
            vocabulary_key: uint64 [N], the bundle's. now_s: What the trends are as of; later than all events of weight.
            unavailable: uint64 [u], keys of items that must not be shown.
        """
        interactions, positives = np.zeros(len(vocabulary_key)), np.zeros(len(vocabulary_key))
        trends = np.zeros((len(HALF_LIFE_S), len(vocabulary_key)))
        place = np.searchsorted(vocabulary_key, self.key)
        inside = place < len(vocabulary_key)
        known = np.flatnonzero(inside)[vocabulary_key[place[inside]] == self.key[inside]]
        rows = place[known]
        interactions[rows], positives[rows] = self.interactions[known], self.positives[known]
        elapsed_s = np.maximum(now_s - self.activity_s[known].astype(np.int64), 0)
        trends[:, rows] = self.activity[known].T * np.exp2(-elapsed_s / HALF_LIFE_S.astype(np.float64)[:, None])
        of_day, of_month, of_year = trends.astype(np.float32)
        mean = positives.sum() / max(interactions.sum(), 1)
        rate = (positives + RATE_PRIOR * mean) / (interactions + RATE_PRIOR)
        available = ~np.isin(vocabulary_key, unavailable)
        order = by_falling(trends[1])
        stats = ItemStats(
            version=version,
            available=available,
            popularity=positives.astype(np.float32),
            trend=of_month,
            trend_day=of_day,
            trend_year=of_year,
            positive_rate=rate.astype(np.float32),
            order=order[available[order]],
        )
        for name in ("available", "popularity", "trend", "trend_day", "trend_year", "positive_rate", "order"):
            getattr(
                stats, name
            ).flags.writeable = False  # as those of a bundle: compiled code is compiled anew for writable ones
        return stats


@njit(cache=True)
def _count(
    row: np.ndarray,
    positive: np.ndarray,
    ts_s: np.ndarray,
    half_life_s: np.ndarray,
    interactions: np.ndarray,
    positives: np.ndarray,
    activity: np.ndarray,
    activity_s: np.ndarray,
) -> None:
    for event in range(len(row)):
        item = row[event]
        interactions[item] += 1
        if not positive[event]:
            continue
        positives[item] += 1
        behind = np.float64(activity_s[item]) - np.float64(ts_s[event])
        for k in range(len(half_life_s)):
            if behind > 0:
                activity[item, k] += np.exp2(-behind / np.float64(half_life_s[k]))
            else:
                activity[item, k] = activity[item, k] * np.exp2(behind / np.float64(half_life_s[k])) + 1.0
        if behind < 0:
            activity_s[item] = ts_s[event]
