"""The only place that rules items out, before any source is read. What is ruled out is counted by reason.

Sources read eligible items only, so a list is as deep as it is asked to be, whatever the user has seen already.
"""

from enum import IntEnum

import numpy as np
from numba import njit

from recsys.types import QueryBatch, Ragged, World
from recsys.users import Users
from recsys.vocabulary import lower_bound


class Reason(IntEnum):
    """Why an item is ruled out; the column in `Slates.removed`. The first reason that holds is the one counted."""

    UNAVAILABLE = 0
    CATEGORY = 1
    SEEN = 2
    EXCLUDED = 3


def eligible(world: World, batch: QueryBatch, users: Users) -> tuple[np.ndarray, np.ndarray]:
    """Which items may be shown to each request.

    What left the ring is recognised by the high 32 bits of its key: of a million items, about 0.07 are ruled out by
    300 such fingerprints without being one of them.

    Returns:
        Bits uint8 [b, ceil(N / 8)], item `i` is bit `i & 7` of byte `i >> 3`; and how many items of the bundle are
        ruled out, int64 [b, len(Reason)].
    """
    bundle = world.bundle
    allowed = Ragged.of(
        [bundle.items_of(c) if len(c := batch.categories[i]) else c for i in range(len(batch))], np.int32
    )
    return _rule_out(
        world.available_bits,
        world.available_count,
        bundle.vocabulary.key,
        batch.categories.lengths() > 0,
        allowed.indptr,
        allowed.values,
        users.history.item,
        users.states.seen,
        users.states.seen_count,
        batch.excluded.indptr,
        batch.excluded.values,
    )


@njit(cache=True)
def is_eligible(bits: np.ndarray, item: int | np.integer) -> bool:
    """One item in one row of the bits, for compiled callers."""
    return bool(bits[item >> 3] >> (item & 7) & 1)


@njit(cache=True)
def _rule_out(
    available: np.ndarray,
    available_count: int,
    key: np.ndarray,
    filtered: np.ndarray,
    allowed_indptr: np.ndarray,
    allowed: np.ndarray,
    ring: np.ndarray,
    older: np.ndarray,
    older_count: np.ndarray,
    excluded_indptr: np.ndarray,
    excluded: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    b, n = len(filtered), len(key)
    bits = np.empty((b, len(available)), np.uint8)
    removed = np.zeros((b, 4), np.int64)
    for row in range(b):
        mine = bits[row]
        removed[row, 0] = n - available_count
        if filtered[row]:
            mine[:] = 0
            removed[row, 1] = available_count
            for item in allowed[allowed_indptr[row] : allowed_indptr[row + 1]]:
                if is_eligible(available, item):
                    mine[item >> 3] |= np.uint8(1 << (item & 7))
                    removed[row, 1] -= 1
        else:
            mine[:] = available
        for item in ring[row]:
            if item >= 0:
                removed[row, 2] += _clear(mine, item)
        for mark in older[row, : older_count[row]]:
            first = np.uint64(mark) << np.uint64(32)
            place = lower_bound(key, first)
            while place < n and key[place] >> np.uint64(32) == np.uint64(mark):
                removed[row, 2] += _clear(mine, place)
                place += 1
        for wanted in excluded[excluded_indptr[row] : excluded_indptr[row + 1]]:
            place = lower_bound(key, wanted)
            if place < n and key[place] == wanted:
                removed[row, 3] += _clear(mine, place)
    return bits, removed


@njit(cache=True)
def _clear(bits: np.ndarray, item: int | np.integer) -> int:
    """Take one item out; 1 if it was in."""
    was = bits[item >> 3] >> (item & 7) & 1
    bits[item >> 3] &= np.uint8(255 - (1 << (item & 7)))
    return int(was)
