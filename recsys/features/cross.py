"""Features of a user and an item together, above all of the user's last interactions."""

from typing import TYPE_CHECKING

import numpy as np

from recsys.features.related import relative
from recsys.features.schema import Feature

if TYPE_CHECKING:
    from recsys.features.frame import Frame


def _als(frame: "Frame") -> np.ndarray:
    return frame.factor_products[0]


def _factor_last(frame: "Frame") -> np.ndarray:
    return frame.factor_products[1]


def _factor_recent(frame: "Frame") -> np.ndarray:
    return frame.factor_products[2]


def _spectral(frame: "Frame") -> np.ndarray:
    return frame.spectral_products[0]


def _category_last(frame: "Frame") -> np.ndarray:
    return frame.category_products[0]


def _category_profile(frame: "Frame") -> np.ndarray:
    return frame.category_products[1]


def _transitions_last(frame: "Frame") -> np.ndarray:
    return frame.transition_sums[0]


def _transitions(frame: "Frame") -> np.ndarray:
    return frame.transition_sums[1]


def _nearby_last(frame: "Frame") -> np.ndarray:
    return frame.nearby_sums[0]


def _nearby(frame: "Frame") -> np.ndarray:
    return frame.nearby_sums[1]


def _nearby_long(frame: "Frame") -> np.ndarray:
    return frame.nearby_sums[2]


def _similar_last(frame: "Frame") -> np.ndarray:
    return frame.similar_sums[0]


def _similar(frame: "Frame") -> np.ndarray:
    return frame.similar_sums[1]


def _history(frame: "Frame") -> np.ndarray:
    return frame.similar_sums[2]


def _content_last(frame: "Frame") -> np.ndarray:
    return frame.content_sums[0]


def _content(frame: "Frame") -> np.ndarray:
    return frame.content_sums[1]


def _content_long(frame: "Frame") -> np.ndarray:
    return frame.content_sums[2]


def _retrieval(frame: "Frame") -> np.ndarray:
    return frame.candidates.retrieval_score


def _among(frame: "Frame", value: np.ndarray) -> np.ndarray:
    return relative(value, frame.candidates.indptr)


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
    Feature("cross_spectral", 1, 0.0, "inner product in the smooth part of the graph", "cell", _spectral),
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
        "cross_transitions_last", 1, 0.0, "transition weight from the newest interaction", "cell", _transitions_last
    ),
    Feature(
        "cross_transitions",
        2,
        0.0,
        "decayed transition weights from the newest interactions",
        "cell",
        _transitions,
    ),
    Feature("cross_nearby_last", 1, 0.0, "nearness to the newest interaction", "cell", _nearby_last),
    Feature("cross_nearby", 1, 0.0, "decayed nearness to the newest interactions", "cell", _nearby),
    Feature("cross_nearby_long", 1, 0.0, "slowly decayed nearness to the ring", "cell", _nearby_long),
    Feature("cross_similar_last", 1, 0.0, "co-occurrence with the newest interaction", "cell", _similar_last),
    Feature("cross_similar", 2, 0.0, "decayed co-occurrence with the newest interactions", "cell", _similar),
    Feature("cross_history", 1, 0.0, "co-occurrence with all positives of the ring", "cell", _history),
    Feature(
        "cross_content_last", 1, 0.0, "likeness of its description to the newest interaction", "cell", _content_last
    ),
    Feature(
        "cross_content", 1, 0.0, "decayed likeness of its description to the newest interactions", "cell", _content
    ),
    Feature(
        "cross_content_long", 1, 0.0, "slowly decayed likeness of its description to the ring", "cell", _content_long
    ),
    Feature(
        "cross_retrieval", 3, 0.0, "reciprocal-rank fusion of the eligible items of each source", "cell", _retrieval
    ),
    # Sums grow with the history and mean nothing beside those of another user: where a cell lies among the candidates
    # of its request does.
    Feature("cross_als_among", 1, 0.0, "cross_als among the candidates, 0 to 1", "cell", lambda f: _among(f, _als(f))),
    Feature(
        "cross_spectral_among",
        1,
        0.0,
        "cross_spectral among the candidates, 0 to 1",
        "cell",
        lambda f: _among(f, _spectral(f)),
    ),
    Feature(
        "cross_transitions_among",
        1,
        0.0,
        "cross_transitions among the candidates, 0 to 1",
        "cell",
        lambda f: _among(f, _transitions(f)),
    ),
    Feature(
        "cross_nearby_among",
        1,
        0.0,
        "cross_nearby among the candidates, 0 to 1",
        "cell",
        lambda f: _among(f, _nearby(f)),
    ),
    Feature(
        "cross_similar_among",
        1,
        0.0,
        "cross_similar among the candidates, 0 to 1",
        "cell",
        lambda f: _among(f, _similar(f)),
    ),
    Feature(
        "cross_history_among",
        1,
        0.0,
        "cross_history among the candidates, 0 to 1",
        "cell",
        lambda f: _among(f, _history(f)),
    ),
)
