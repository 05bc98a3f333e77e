"""What neighbour tables say of candidate cells, and where a cell's value lies among those of its request; compiled."""

import numpy as np
from numba import njit

from recsys.hashing import slot_of

_ROOM = 8  # places for each cell: most neighbours are no candidate, and so find an empty place at once (100 to 55 us)


@njit(cache=True)
def related(
    table_item: np.ndarray,
    table_weight: np.ndarray,
    seed: np.ndarray,
    seed_weight: np.ndarray,
    indptr: np.ndarray,
    item: np.ndarray,
) -> np.ndarray:
    """How much each cell's item is related to some items of its request, whichever source brought it.

    Args:
        table_item, table_weight: As in `Neighbours`, [N, K]. seed: int32 [b, h], rows of the bundle, -1 for none.
        seed_weight: float32 [v, b, h], what each seed counts, in v ways. indptr: int64 [b + 1]. item: int32 [m].
    Returns:
        float32 [v, m]. Cost: one probe of a small table for each neighbour of each seed that counts.
    """
    v, b, h = seed_weight.shape
    result = np.zeros((v, len(item)), np.float32)
    widest = 1
    for row in range(b):
        widest = max(widest, indptr[row + 1] - indptr[row])
    size = 16
    while size < _ROOM * widest:
        size *= 2
    mask = np.uint32(size - 1)
    item_at = np.full(size, -1, np.int32)  # open addressing: items of a request, and their cells beside
    cell_at = np.empty(size, np.int32)
    taken = np.empty(widest, np.uint32)
    for row in range(b):
        start, end = indptr[row], indptr[row + 1]
        for cell in range(start, end):
            place = slot_of(item_at, item[cell], mask)
            item_at[place], cell_at[place], taken[cell - start] = item[cell], cell, place
        for slot in range(h):
            of, counts = seed[row, slot], False
            for way in range(v):
                counts |= seed_weight[way, row, slot] > 0
            if of < 0 or not counts:
                continue
            for near in range(table_item.shape[1]):
                one = table_item[of, near]
                if one < 0:
                    break
                place = slot_of(item_at, one, mask)
                if item_at[place] == one:
                    for way in range(v):
                        result[way, cell_at[place]] += seed_weight[way, row, slot] * table_weight[of, near]
        for place in taken[: end - start]:
            item_at[place] = -1
    return result


@njit(cache=True)
def relative(value: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Each cell's value between the lowest and the highest of its request, 0 to 1; 0 where all are alike.

    Args:
        value: float32 [m]. indptr: int64 [b + 1].
    """
    result = np.zeros(len(value), np.float32)
    for row in range(len(indptr) - 1):
        start, end = indptr[row], indptr[row + 1]
        if start == end:
            continue
        low, high = value[start:end].min(), value[start:end].max()
        if high > low:
            for cell in range(start, end):
                result[cell] = (value[cell] - low) / (high - low)
    return result
