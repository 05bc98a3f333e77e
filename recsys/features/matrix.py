"""The ordered feature set of this version and the matrix that the ranker reads."""

import numpy as np
from numba import njit

from recsys.features import cross, item, user
from recsys.features.codec import LAYOUT
from recsys.features.frame import Frame
from recsys.features.schema import schema_hash

FEATURES = (*user.FEATURES, *item.FEATURES, *cross.FEATURES)
NAMES = tuple(feature.name for feature in FEATURES)
SCHEMA_HASH = schema_hash(FEATURES, LAYOUT)


def feature_matrix(frame: Frame) -> np.ndarray:
    """All features of all candidate cells: float32 [m, F], column-major, in the order of FEATURES."""
    candidates = frame.candidates
    columns = _spread(frame.user_values, frame.world.item_columns, candidates.indptr, candidates.item, len(FEATURES))
    for column, feature in zip(columns[-len(cross.FEATURES) :], cross.FEATURES, strict=True):
        column[:] = feature.value(frame)
    return columns.T


@njit(cache=True)
def _spread(
    user_values: np.ndarray, item_columns: np.ndarray, indptr: np.ndarray, item: np.ndarray, features: int
) -> np.ndarray:
    """A row a feature: those of users and of items, given to each cell; the rest is left empty. float32 [F, m]."""
    columns = np.empty((features, len(item)), np.float32)
    users = len(user_values)
    for one in range(users):
        for row in range(len(indptr) - 1):
            columns[one, indptr[row] : indptr[row + 1]] = user_values[one, row]
    for one in range(len(item_columns)):
        for cell in range(len(item)):
            columns[users + one, cell] = item_columns[one, item[cell]]
    return columns
