"""Features of an item alone, from the item-stats snapshot: computed once per snapshot, not per request."""

from typing import TYPE_CHECKING

import numpy as np

from recsys.features.schema import Feature

if TYPE_CHECKING:
    from recsys.types import ItemStats


def _log_popularity(stats: "ItemStats") -> np.ndarray:
    return np.log1p(stats.popularity)


def _log_trend(stats: "ItemStats") -> np.ndarray:
    return np.log1p(stats.trend)


def _momentum(stats: "ItemStats") -> np.ndarray:
    return stats.trend / (stats.popularity + np.float32(5))


def _positive_rate(stats: "ItemStats") -> np.ndarray:
    return stats.positive_rate


FEATURES = (
    Feature("item_log_popularity", 1, 0.0, "log(1 + positives of the whole window)", "item", _log_popularity),
    Feature("item_log_trend", 1, 0.0, "log(1 + positives decayed with a half-life of 30 days)", "item", _log_trend),
    Feature("item_momentum", 1, 0.0, "trend / (popularity + 5): how recent the demand is", "item", _momentum),
    Feature("item_positive_rate", 1, 0.0, "positives / interactions, shrunk to the mean", "item", _positive_rate),
)


def columns(stats: "ItemStats") -> np.ndarray:
    """All item features of all items, float32 [len(FEATURES), N], in order."""
    return np.stack([feature.value(stats).astype(np.float32) for feature in FEATURES])
