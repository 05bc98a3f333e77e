"""Reciprocal-rank fusion of ranked lists, compiled.

In numpy the same takes some forty passes over small arrays; the measurements are in decision 0005.
"""

import numpy as np
from numba import njit

RRF_K = 60.0  # Cormack, Clarke, Büttcher, "Reciprocal rank fusion", SIGIR 2009
_FUSED_MAX = 1.0  # above any fused score: that of an item on top of 59 lists
_FUSED_SCALE = float(1 << 31)
_ITEM_BITS = 31
_ITEM_MASK = (1 << _ITEM_BITS) - 1


@njit(cache=True)
def fuse(
    item: np.ndarray, weight: np.ndarray, position: np.ndarray, source: np.ndarray, n_sources: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bring equal items of a request together and add up what its lists say of them.

    Args:
        item: int32 [b, w], rows of the bundle, -1 for none. weight: float32 [b, w].
        position: int64 [w], each column's place in its list. source: int64 [w], each column's source.
    Returns:
        Bounds int64 [b + 1] and per cell, by falling fused score and then rising item: item int32 [m], source bits
        uint8 [m], fused score float32 [m] = sum of 1 / (RRF_K + position), weights float32 [n_sources, m] summed in
        order of the columns.
    """
    b, width = item.shape
    size = 1
    while size < 2 * width:
        size *= 2
    table = np.empty(size, np.int32)  # open addressing: item -> its cell
    at_item, at_fused = np.empty(width, np.int32), np.empty(width, np.float64)
    at_bits, at_weight = np.empty(width, np.uint8), np.empty((n_sources, width), np.float64)
    bounds = np.zeros(b + 1, np.int64)
    out_item, out_fused = np.empty(b * width, np.int32), np.empty(b * width, np.float32)
    out_bits, out_weight = np.empty(b * width, np.uint8), np.empty((n_sources, b * width), np.float32)
    for row in range(b):
        table[:] = -1
        cells = 0
        for column in range(width):
            wanted = item[row, column]
            if wanted < 0:
                continue
            slot = _slot(table, at_item, wanted)
            cell = table[slot]
            if cell < 0:
                cell = cells
                cells += 1
                table[slot] = cell
                at_item[cell] = wanted
                at_fused[cell] = 0.0
                at_bits[cell] = 0
                at_weight[:, cell] = 0.0
            at_fused[cell] += 1.0 / (RRF_K + position[column])
            at_bits[cell] |= np.uint8(1 << source[column])
            at_weight[source[column], cell] += weight[row, column]
        # One integer per cell, (1 - fused score, item): a plain sort orders them.
        order = np.empty(cells, np.int64)
        for cell in range(cells):
            falling = np.int64((_FUSED_MAX - at_fused[cell]) * _FUSED_SCALE)
            order[cell] = (falling << _ITEM_BITS) | np.int64(at_item[cell])
        order.sort()
        start = bounds[row]
        for place in range(cells):
            cell = table[_slot(table, at_item, np.int32(order[place] & _ITEM_MASK))]
            out_item[start + place] = at_item[cell]
            out_fused[start + place] = at_fused[cell]
            out_bits[start + place] = at_bits[cell]
            for one in range(n_sources):
                out_weight[one, start + place] = at_weight[one, cell]
        bounds[row + 1] = start + cells
    m = bounds[b]
    return bounds, out_item[:m].copy(), out_bits[:m].copy(), out_fused[:m].copy(), out_weight[:, :m].copy()


@njit(cache=True)
def _slot(table: np.ndarray, at_item: np.ndarray, item: int | np.integer) -> int:
    """Where an item is in the table, or the free place where it belongs."""
    mask = len(table) - 1
    slot = (item * 0x9E3779B1 >> 7) & mask
    while table[slot] >= 0 and at_item[table[slot]] != item:
        slot = (slot + 1) & mask
    return slot
