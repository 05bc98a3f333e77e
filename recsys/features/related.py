"""What neighbour tables say of candidate cells, and where a cell's value lies among those of its request; compiled."""

import numpy as np
from numba import njit


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
    size = 4
    while size < 2 * widest:
        size *= 2
    mask = size - 1
    cell_at = np.empty(size, np.int64)  # open addressing: item -> its cell
    for row in range(b):
        cell_at[:] = -1
        for cell in range(indptr[row], indptr[row + 1]):
            place = (item[cell] * 0x9E3779B1 >> 7) & mask
            while cell_at[place] >= 0:
                place = (place + 1) & mask
            cell_at[place] = cell
        for slot in range(h):
            of = seed[row, slot]
            if of < 0 or not np.any(seed_weight[:, row, slot] > 0):
                continue
            for near in range(table_item.shape[1]):
                one = table_item[of, near]
                if one < 0:
                    break
                place = (one * 0x9E3779B1 >> 7) & mask
                while cell_at[place] >= 0 and item[cell_at[place]] != one:
                    place = (place + 1) & mask
                cell = cell_at[place]
                if cell >= 0:
                    for way in range(v):
                        result[way, cell] += seed_weight[way, row, slot] * table_weight[of, near]
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
