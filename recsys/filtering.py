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
    ring, seen, seen_count, excluded = users.history.item, users.states.seen, users.states.seen_count, batch.excluded
    if world.lifted is not None:
        allowed, ring, seen, seen_count, excluded = _lift(world, allowed, ring, seen, seen_count, excluded)
    return _rule_out(
        world.available_bits,
        world.available_count,
        bundle.vocabulary.key,
        batch.categories.lengths() > 0,
        allowed.indptr,
        allowed.values,
        ring,
        seen,
        seen_count,
        excluded.indptr,
        excluded.values,
    )


def _lift(
    world: World, allowed: Ragged, ring: np.ndarray, seen: np.ndarray, seen_count: np.ndarray, excluded: Ragged
) -> tuple[Ragged, np.ndarray, np.ndarray, np.ndarray, Ragged]:
    """What the rules are given, without what would rule out the world's lifted item."""
    assert world.lifted is not None
    item, reasons = world.lifted
    key = world.bundle.vocabulary.key[item]
    if reasons >> Reason.CATEGORY & 1:
        allowed = Ragged.of([np.union1d(one, [item]) for one in _rows(allowed)], np.int32)
    if reasons >> Reason.SEEN & 1:
        ring = np.where(ring == item, -1, ring).astype(np.int32)
        older = [one[:used] for one, used in zip(seen, seen_count, strict=True)]
        kept = [one[one != key >> np.uint64(32)] for one in older]
        seen, seen_count = np.zeros_like(seen), np.array([len(one) for one in kept], np.int32)
        for row, one in enumerate(kept):
            seen[row, : len(one)] = one
    if reasons >> Reason.EXCLUDED & 1:
        excluded = Ragged.of([one[one != key] for one in _rows(excluded)], np.uint64)
    return allowed, ring, seen, seen_count, excluded


def _rows(ragged: Ragged) -> list[np.ndarray]:
    return [ragged[row] for row in range(len(ragged))]


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
