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
    of_items = iter(frame.world.item_columns)
    for column, feature in zip(columns, FEATURES, strict=True):
        if feature.grain == "item":
            next(of_items).take(frame.candidates.item, out=column)
        elif feature.grain == "user":
            feature.value(frame).astype(np.float32, copy=False).take(row, out=column)
        else:
            column[:] = feature.value(frame)
    return columns.T
