"""Features of a user and an item together, above all of the user's last interactions."""

from typing import TYPE_CHECKING

import numpy as np

from recsys.features.schema import Feature
from recsys.types import Source

if TYPE_CHECKING:
    from recsys.features.frame import Frame


def _als(frame: "Frame") -> np.ndarray:
    return frame.factor_products[0]


def _factor_last(frame: "Frame") -> np.ndarray:
    return frame.factor_products[1]


def _factor_recent(frame: "Frame") -> np.ndarray:
    return frame.factor_products[2]


def _category_last(frame: "Frame") -> np.ndarray:
    return frame.category_products[0]


def _category_profile(frame: "Frame") -> np.ndarray:
    return frame.category_products[1]


def _transitions(frame: "Frame") -> np.ndarray:
    return frame.candidates.source_score[Source.TRANSITIONS]


def _similar(frame: "Frame") -> np.ndarray:
    return frame.candidates.source_score[Source.SIMILAR]


def _retrieval(frame: "Frame") -> np.ndarray:
    return frame.candidates.retrieval_score


FEATURES = (
    Feature("cross_als", 1, 0.0, "inner product of folded-in user vector and item factor", "cell", _als),
    Feature(
        "cross_factor_last",
        1,
        0.0,
        "cosine of the item's factor and that of the newest positive",
        "cell",
        _factor_last,
    ),
    Feature("cross_factor_recent", 1, 0.0, "mean cosine to the 5 newest positives", "cell", _factor_recent),
    Feature("cross_category_last", 1, 0.0, "categories shared with the newest positive", "cell", _category_last),
    Feature(
        "cross_category_profile",
        1,
        0.0,
        "mean categories shared with the positives of the ring",
        "cell",
        _category_profile,
    ),
    Feature(
        "cross_transitions",
        1,
        0.0,
        "decayed transition weight from the newest interactions",
        "cell",
        _transitions,
    ),
    Feature("cross_similar", 1, 0.0, "decayed co-occurrence weight from the newest interactions", "cell", _similar),
    Feature(
        "cross_retrieval", 2, 0.0, "reciprocal-rank fusion of the eligible items of each source", "cell", _retrieval
    ),
)
