"""The only place that reorders: the best `count` of each request."""

import numpy as np
from numba import njit


@njit(cache=True)
def select(indptr: np.ndarray, score: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cells of each request's list, best first.

    Equal scores keep the order of the candidates; a score that is not finite sorts last, so that no broken value can
    take a place.

    Args:
        indptr: int64 [b + 1], bounds of each request's candidates. score: float64 [m]. count: int32 [b].
    Returns:
        int64 [t], cells grouped by request, and their bounds int64 [b + 1]; request `i` has min(count[i], its
        candidates) of them.
    """
    b = len(count)
    bounds = np.zeros(b + 1, np.int64)
    for row in range(b):
        bounds[row + 1] = bounds[row] + min(count[row], indptr[row + 1] - indptr[row])
    chosen, worth = np.empty(bounds[b], np.int64), np.empty(bounds[b], np.float64)
    for row in range(b):
        start, end, held = bounds[row], bounds[row + 1], bounds[row]
        if start == end:
            continue
        for cell in range(indptr[row], indptr[row + 1]):
            value = score[cell] if np.isfinite(score[cell]) else -np.inf
            if held == end and not value > worth[end - 1]:
                continue
            place = min(held, end - 1)  # insertion: of 200 candidates few enter a list of 20
            while place > start and worth[place - 1] < value:
                worth[place], chosen[place] = worth[place - 1], chosen[place - 1]
                place -= 1
            worth[place], chosen[place] = value, cell
            held = min(held + 1, end)
    return chosen, bounds


@njit(cache=True)
def end_with(
    cells: np.ndarray, bounds: np.ndarray, indptr: np.ndarray, item: np.ndarray, explored: np.ndarray
) -> np.ndarray:
    """Give the last place of each list to its explored item, in place, unless the list has it by rank.

    Args:
        cells, bounds: As `select` returns them. indptr: int64 [b + 1]. item: int32 [m].
        explored: int32 [b], -1 for none.
    Returns:
        bool [b], where that was done.
    """
    done = np.zeros(len(explored), np.bool_)
    for row in range(len(explored)):
        start, end = bounds[row], bounds[row + 1]
        if explored[row] < 0 or start == end:
            continue
        done[row] = True
        for place in range(start, end):
            if item[cells[place]] == explored[row]:
                done[row] = False
        for cell in range(indptr[row], indptr[row + 1]):
            if done[row] and item[cell] == explored[row]:
                cells[end - 1] = cell
    return done
