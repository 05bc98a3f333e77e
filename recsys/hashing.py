"""Open addressing, compiled: where an item is in a table of items that is never more than half full."""

import numpy as np
from numba import njit


@njit(cache=True)
def slot_of(item_at: np.ndarray, one: int, mask: np.uint32) -> np.uint32:
    """The place of an item, or the free one where it belongs.

    Args:
        item_at: int32 [mask + 1], a power of two; -1 where free. one: At least 0.
    """
    place = (np.uint32(one) * np.uint32(0x9E3779B1) >> np.uint32(8)) & mask
    while item_at[place] >= 0 and item_at[place] != one:
        place = (place + np.uint32(1)) & mask
    return place
