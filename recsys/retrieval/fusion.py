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
    item: tuple[np.ndarray, ...],
    weight: tuple[np.ndarray, ...],
    length: tuple[int, ...],
    source: tuple[int, ...],
    wanted: np.ndarray,
    n_sources: int,
    drawn: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bring equal items of a request together, add up what its lists say of them, and keep the best.

    Args:
        item, weight, length, source: Of each source, as in `sources.Lists`.
        wanted: int64 [b], cells kept of each request.
        drawn: A source whose items are kept as if they were on top of a list, though chance put them there: it adds
            nothing to the score that is returned, or a draw would change what is thought of other candidates.
    Returns:
        Bounds int64 [b + 1] and per cell, by falling fused score and then rising item: item int32 [m], source bits
        uint16 [m], fused score float32 [m] = sum of 1 / (RRF_K + position), weights float32 [n_sources, m] summed in
        order of the columns.
    """
    b, width = len(wanted), 0
    for one in range(len(item)):
        width += item[one].shape[1]
    size = 1
    while size < 2 * width:
        size *= 2
    table = np.empty(size, np.int32)  # open addressing: item -> its cell
    at_item, at_fused = np.empty(width, np.int32), np.empty(width, np.float64)
    at_bits, at_weight = np.empty(width, np.uint16), np.empty((width, n_sources), np.float64)
    keys = np.empty(width, np.int64)
    share = 1.0 / (RRF_K + np.arange(width))
    bounds = np.zeros(b + 1, np.int64)
    most = int(np.minimum(wanted, width).sum())
    out_item, out_fused = np.empty(most, np.int32), np.empty(most, np.float32)
    out_bits, out_weight = np.empty(most, np.uint16), np.empty((n_sources, most), np.float32)
    for row in range(b):
        table[:] = -1
        cells = _collect(row, item, weight, length, source, share, table, at_item, at_fused, at_bits, at_weight)
        # One integer per cell, (1 - fused score, item): a plain sort orders them.
        for cell in range(cells):
            falling = np.int64((_FUSED_MAX - at_fused[cell]) * _FUSED_SCALE)
            keys[cell] = (falling << _ITEM_BITS) | np.int64(at_item[cell])
        keys[:cells].sort()
        start = bounds[row]
        kept = min(cells, wanted[row])
        for place in range(kept):
            cell = table[_slot(table, at_item, np.int32(keys[place] & _ITEM_MASK))]
            out_item[start + place] = at_item[cell]
            by_chance = share[0] if at_bits[cell] >> drawn & 1 else 0.0
            out_fused[start + place] = at_fused[cell] - by_chance
            out_bits[start + place] = at_bits[cell]
            for other in range(n_sources):
                out_weight[other, start + place] = at_weight[cell, other]
        bounds[row + 1] = start + kept
    m = bounds[b]
    return bounds, out_item[:m], out_bits[:m], out_fused[:m], np.ascontiguousarray(out_weight[:, :m])


@njit(cache=True)
def _collect(
    row: int,
    item: tuple[np.ndarray, ...],
    weight: tuple[np.ndarray, ...],
    length: tuple[int, ...],
    source: tuple[int, ...],
    share: np.ndarray,
    table: np.ndarray,
    at_item: np.ndarray,
    at_fused: np.ndarray,
    at_bits: np.ndarray,
    at_weight: np.ndarray,
) -> int:
    """Fill the cells of one request and the table from item to cell; how many cells there are."""
    cells = 0
    for one in range(len(item)):
        items, weights, own, position = item[one][row], weight[one][row], source[one], -1
        for column in range(len(items)):
            position = 0 if position + 1 == length[one] else position + 1
            found = items[column]
            if found < 0:
                continue
            slot = _slot(table, at_item, found)
            cell = table[slot]
            if cell < 0:
                cell = cells
                cells += 1
                table[slot] = cell
                at_item[cell], at_fused[cell], at_bits[cell] = found, 0.0, 0
                at_weight[cell, :] = 0.0
            at_fused[cell] += share[position]
            at_bits[cell] |= np.uint16(1 << own)
            at_weight[cell, own] += weights[column]
    return cells


@njit(cache=True)
def _slot(table: np.ndarray, at_item: np.ndarray, item: int | np.integer) -> int:
    """Where an item is in the table, or the free place where it belongs."""
    mask = len(table) - 1
    slot = (item * 0x9E3779B1 >> 7) & mask
    while table[slot] >= 0 and at_item[table[slot]] != item:
        slot = (slot + 1) & mask
    return slot
