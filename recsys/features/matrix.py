"""The ordered feature set of this version and the matrix that the ranker reads."""

import numpy as np

from recsys.features import cross, item, user
from recsys.features.codec import LAYOUT
from recsys.features.frame import Frame
from recsys.features.schema import schema_hash

FEATURES = (*user.FEATURES, *item.FEATURES, *cross.FEATURES)
NAMES = tuple(feature.name for feature in FEATURES)
SCHEMA_HASH = schema_hash(FEATURES, LAYOUT)


def feature_matrix(frame: Frame) -> np.ndarray:
    """All features of all candidate cells: float32 [m, F], column-major, in the order of FEATURES."""
    columns = np.empty((len(FEATURES), len(frame.candidates.item)), np.float32)
    row = frame.candidates.row()
    for column, feature in zip(columns, FEATURES, strict=True):
        value = feature.value(frame)
        if feature.grain == "user":
            value = value[row]
        elif feature.grain == "item":
            value = value[frame.candidates.item]
        column[:] = value
    return columns.T
