"""Features of an item alone, from the item-stats snapshot: computed once per snapshot, not per request."""

from typing import TYPE_CHECKING

import numpy as np

from recsys.features.schema import Feature

if TYPE_CHECKING:
    from recsys.types import ItemStats

_PRIOR = 0.1  # of the mean item's count; for rare items it keeps momentum near 1


def _log_popularity(stats: "ItemStats") -> np.ndarray:
    return np.log1p(_relative(stats.popularity))


def _log_trend(stats: "ItemStats") -> np.ndarray:
    return np.log1p(_relative(stats.trend))


def _log_trend_day(stats: "ItemStats") -> np.ndarray:
    return np.log1p(_relative(stats.trend_day))


def _log_trend_year(stats: "ItemStats") -> np.ndarray:
    return np.log1p(_relative(stats.trend_year))


def _momentum(stats: "ItemStats") -> np.ndarray:
    return (_relative(stats.trend) + _PRIOR) / (_relative(stats.popularity) + _PRIOR)


def _relative(count: np.ndarray) -> np.ndarray:
    """Counts in units of the mean item's.

    Counts grow with the log, and the ranker learns on an older log than it serves: its highest border would lie below
    the counts of all that is popular, and not tell them apart.
    """
    mean = count.mean()
    return count / mean if mean > 0 else count


def _positive_rate(stats: "ItemStats") -> np.ndarray:
    return stats.positive_rate


FEATURES = (
    Feature(
        "item_log_popularity",
        2,
        0.0,
        "log(1 + positives of the whole window / those of the mean item)",
        "item",
        _log_popularity,
    ),
    Feature(
        "item_log_trend",
        2,
        0.0,
        "log(1 + positives decayed with a half-life of 30 days / those of the mean item)",
        "item",
        _log_trend,
    ),
    Feature("item_log_trend_day", 1, 0.0, "item_log_trend with a half-life of a day", "item", _log_trend_day),
    Feature("item_log_trend_year", 1, 0.0, "item_log_trend with a half-life of a year", "item", _log_trend_year),
    Feature(
        "item_momentum",
        2,
        1.0,
        "(trend + 0.1) / (popularity + 0.1), both relative to the mean item: how recent the demand is",
        "item",
        _momentum,
    ),
    Feature("item_positive_rate", 1, 0.0, "positives / interactions, shrunk to the mean", "item", _positive_rate),
)


def columns(stats: "ItemStats") -> np.ndarray:
    """All item features of all items, float32 [len(FEATURES), N], in order."""
    return np.stack([feature.value(stats).astype(np.float32) for feature in FEATURES])


def by_falling(value: np.ndarray) -> np.ndarray:
    """Items by falling value, ties by row: float [N], at least 0 -> int32 [N]. Only what is above 0 is sorted."""
    above = value > 0
    some = np.flatnonzero(above)
    some = some[np.argsort(-value[some], kind="stable")]
    return np.concatenate([some, np.flatnonzero(~above)]).astype(np.int32)
