"""The only place where the set of candidates shrinks. What is removed is counted by reason."""

from enum import IntEnum

import numpy as np
from numba import njit

from recsys.features.user import UserStates, fingerprint
from recsys.retrieval.candidates import wanted_candidates
from recsys.types import CandidateSet, QueryBatch, Ragged, World

_LOW = np.uint64(0xFFFFFFFF)


class Reason(IntEnum):
    """Why a candidate was removed; the column in `Slates.removed`."""

    SEEN = 0
    EXCLUDED = 1
    UNAVAILABLE = 2
    CATEGORY = 3
    OVER_LIMIT = 4


def keep(world: World, batch: QueryBatch, states: UserStates, found: CandidateSet) -> tuple[CandidateSet, np.ndarray]:
    """Drop what must not be shown, then what is beyond the number that will be ranked.

    Seen and excluded items are recognised by the low 32 bits of their key: of a million candidates against 300 such
    items, about 0.07 are dropped without being one of them.

    Returns:
        What is left, same order, and counts int64 [b, len(Reason)].
    """
    allowed = Ragged.of(
        [world.bundle.items_of(c) if len(c := batch.categories[i]) else c for i in range(len(batch))], np.int32
    )
    cells, bounds, removed = _keep(
        found.indptr,
        found.item,
        fingerprint(world.bundle.vocabulary.key[found.item]),
        states.item_key,
        states.length,
        states.seen,
        states.seen_count,
        batch.excluded.indptr,
        batch.excluded.values,
        world.item_stats.available,
        batch.categories.lengths() > 0,
        allowed.indptr,
        allowed.values,
        wanted_candidates(world, batch),
    )
    return found.take(cells, bounds), removed


@njit(cache=True)
def _keep(
    indptr: np.ndarray,
    item: np.ndarray,
    mark: np.ndarray,
    ring: np.ndarray,
    ring_length: np.ndarray,
    older: np.ndarray,
    older_count: np.ndarray,
    excluded_indptr: np.ndarray,
    excluded: np.ndarray,
    available: np.ndarray,
    filtered: np.ndarray,
    allowed_indptr: np.ndarray,
    allowed: np.ndarray,
    wanted: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells that stay, their bounds, and counts by reason: the first reason that holds is the one counted."""
    b = len(indptr) - 1
    kept = np.empty(len(item), np.int64)
    bounds = np.zeros(b + 1, np.int64)
    removed = np.zeros((b, 5), np.int64)
    for row in range(b):
        seen = _table(ring_length[row] + older_count[row])
        for slot in range(ring_length[row]):
            _add(seen, np.uint32(ring[row, slot] & _LOW))
        for slot in range(older_count[row]):
            _add(seen, older[row, slot])
        banned = _table(excluded_indptr[row + 1] - excluded_indptr[row])
        for slot in range(excluded_indptr[row], excluded_indptr[row + 1]):
            _add(banned, np.uint32(excluded[slot] & _LOW))
        among = allowed[allowed_indptr[row] : allowed_indptr[row + 1]]
        total = bounds[row]
        for cell in range(indptr[row], indptr[row + 1]):
            if _has(seen, mark[cell]):
                removed[row, 0] += 1
            elif _has(banned, mark[cell]):
                removed[row, 1] += 1
            elif not available[item[cell]]:
                removed[row, 2] += 1
            elif filtered[row] and not _holds(among, item[cell]):
                removed[row, 3] += 1
            elif total - bounds[row] == wanted[row]:
                removed[row, 4] += 1
            else:
                kept[total] = cell
                total += 1
        bounds[row + 1] = total
    return kept[: bounds[b]].copy(), bounds, removed


@njit(cache=True)
def _table(entries: int) -> np.ndarray:
    """A set of uint32 by open addressing, as int64 with -1 for free places; at most half full."""
    size = 8
    while size < 2 * entries:
        size *= 2
    return np.full(size, -1, np.int64)


@njit(cache=True)
def _add(table: np.ndarray, mark: int | np.integer) -> None:
    mask = len(table) - 1
    slot = mark & mask  # the marks are hashes already
    while table[slot] >= 0 and table[slot] != mark:
        slot = (slot + 1) & mask
    table[slot] = mark


@njit(cache=True)
def _has(table: np.ndarray, mark: int | np.integer) -> bool:
    mask = len(table) - 1
    slot = mark & mask
    while table[slot] >= 0:
        if table[slot] == mark:
            return True
        slot = (slot + 1) & mask
    return False


@njit(cache=True)
def _holds(ascending: np.ndarray, value: int | np.integer) -> bool:
    place = np.searchsorted(ascending, value)
    return bool(place < len(ascending) and ascending[place] == value)
