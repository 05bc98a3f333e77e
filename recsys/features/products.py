"""Inner products of candidate cells with a few vectors of their request, compiled.

`fastmath` may regroup the sums, which lets a row be added up eight numbers at a time. The grouping is fixed when the
code is compiled and depends on the width only, so a cell's value does not depend on its neighbours.
"""

import numpy as np
from numba import njit


@njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
def products(table: np.ndarray, vectors: np.ndarray, indptr: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Each cell's row of `table` times each of its request's vectors.

    Args:
        table: float32 [N, w]. vectors: float32 [b, v, w]. indptr: int64 [b + 1]. item: int32 [m].
    Returns:
        float32 [v, m].
    """
    b, v, w = vectors.shape
    result = np.empty((v, len(item)), np.float32)
    for row in range(b):
        for cell in range(indptr[row], indptr[row + 1]):
            values = table[item[cell]]
            for one in range(v):
                total = np.float32(0)
                for place in range(w):
                    total += values[place] * vectors[row, one, place]
                result[one, cell] = total
    return result


@njit(cache=True)
def unit_flags(marks: np.ndarray, width: int) -> np.ndarray:
    """A row for each of some 64-bit marks, uint64 [m]: 1 where a bit is set, over the root of their number.

    Returns:
        float32 [m, width]. Cost: 10 us of CPU a request with 200 candidates.
    """
    flags = np.zeros((len(marks), width), np.float32)
    for row in range(len(marks)):
        count = 0
        for bit in range(width):
            if marks[row] >> np.uint64(bit) & np.uint64(1):
                count += 1
        value = np.float32(1) / np.sqrt(np.float32(max(count, 1)))
        for bit in range(width):
            if marks[row] >> np.uint64(bit) & np.uint64(1):
                flags[row, bit] = value
    return flags


@njit(cache=True)
def newest_means(
    table: np.ndarray, scale: np.ndarray, item: np.ndarray, positive: np.ndarray, newest: int
) -> tuple[np.ndarray, np.ndarray]:
    """What the newest positives of each user look like.

    Args:
        table: float32 [N, w]; its rows count times `scale`, float32 [N]. item: int32 [b, h], newest first.
        positive: bool [b, h]. newest: How many positives go into the mean.
    Returns:
        The row of the newest positive, float32 [b, w], and the mean row of the newest ones, float32 [b, w]; 0 without.
    """
    b, h = item.shape
    last = np.zeros((b, table.shape[1]), np.float32)
    mean = np.zeros((b, table.shape[1]), np.float32)
    for row in range(b):
        found = 0
        for slot in range(h):
            if found == newest:
                break
            if not positive[row, slot]:
                continue
            values = table[item[row, slot]] * scale[item[row, slot]]
            if found == 0:
                last[row] = values
            mean[row] += values
            found += 1
        if found:
            mean[row] /= np.float32(found)
    return last, mean
