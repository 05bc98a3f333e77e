"""The only place that reorders: the best `count` of each request, or as its controls want them."""

import numpy as np
from numba import njit

from recsys.marginal_relevance import NO_QUOTA, by_relevance, change_room, fill, has_room
from recsys.types import CandidateSet, Controls, World


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


def controlled(
    world: World,
    controls: Controls,
    candidates: CandidateSet,
    score: np.ndarray,
    cells: np.ndarray,
    bounds: np.ndarray,
    explored: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The lists as their controls want them; those of requests without any as they are.

    A quota is a maximum: a list ends where nothing is left that fits. An item counts for each of its categories. Scores
    that are not finite come last, as in `select`; an item without a vector is taken to be like all others. Of equal
    candidates the one of the higher score is taken.

    Args:
        score: float64 [m]. cells, bounds: As `select` returns them for these scores. explored: int32 [b], -1 for none.
    Returns:
        Cells and bounds as those of `select`; and `explored`, -1 where it has no room on the last place.
    """
    bundle = world.bundle
    return _controlled(
        cells,
        bounds,
        explored,
        candidates.indptr,
        score,
        candidates.item,
        world.item_stats.popularity[candidates.item],
        bundle.spectral.vector,
        controls.diversity,
        controls.popularity_damping,
        controls.quota_category.indptr,
        controls.quota_category.values,
        controls.quota_most.values,
        bundle.item_category.indptr,
        bundle.item_category.values,
        np.full(len(bundle.category_name), NO_QUOTA, np.int32),
    )


@njit(cache=True)
def _controlled(
    cells: np.ndarray,
    bounds: np.ndarray,
    explored: np.ndarray,
    indptr: np.ndarray,
    score: np.ndarray,
    item: np.ndarray,
    popularity: np.ndarray,
    vector: np.ndarray,
    diversity: np.ndarray,
    damping: np.ndarray,
    quota_indptr: np.ndarray,
    quota_category: np.ndarray,
    quota_most: np.ndarray,
    of_item: np.ndarray,
    category: np.ndarray,
    left: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`of_item`, `category`: bounds and values of the items' categories. `left`: [C], room in each; as it was after."""
    chosen, ends, admitted = np.empty_like(cells), np.zeros_like(bounds), explored.copy()
    for row in range(len(diversity)):
        start, wanted = ends[row], bounds[row + 1] - bounds[row]
        quotas = slice(quota_indptr[row], quota_indptr[row + 1])
        if wanted == 0 or (diversity[row] == 0 and damping[row] == 0 and quota_indptr[row] == quota_indptr[row + 1]):
            chosen[start : start + wanted] = cells[bounds[row] : bounds[row + 1]]
            ends[row + 1] = start + wanted
            continue
        left[quota_category[quotas]] = quota_most[quotas]
        own = slice(indptr[row], indptr[row + 1])
        order, relevance, sound = by_relevance(score[own], popularity[own], damping[row])
        items, places = item[own][order], chosen[start : start + wanted]
        held = fill(items, relevance, sound, diversity[row], vector, of_item, category, left, places)
        if held and explored[row] >= 0:
            change_room(items[places[held - 1]], of_item, category, left, 1)
            if not has_room(explored[row], of_item, category, left):
                admitted[row] = -1
        for place in range(held):
            places[place] = indptr[row] + order[places[place]]
        ends[row + 1] = start + held
        left[quota_category[quotas]] = NO_QUOTA
    return chosen[: ends[-1]], ends, admitted
