"""The candidate sources: each reads ranked lists of eligible items for the requests of a micro-batch."""

from dataclasses import dataclass

import numpy as np
from numba import njit

from recsys.filtering import is_eligible
from recsys.hashing import slot_of
from recsys.retrieval.index import Index
from recsys.retrieval.neighbours import Neighbours
from recsys.types import Source, World

SCORED = 12_000  # items; of a million, 7,500 and 33,000 take 4 and 11 ms to score, 8 and 2 to search (decision 0026)


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """Ranked lists of one source, `w` columns a request; several lists may stand side by side.

    Attributes:
        item: int32 [b, w], rows of the bundle, -1 for none.
        weight: float32 [b, w], the source's own scores; 0 where it has none.
        length: Columns of one list; `w` is a multiple of it. A column's place in its list is its number modulo this.
    """

    source: Source
    item: np.ndarray
    weight: np.ndarray
    length: int


def nearest(
    source: Source,
    index: Index,
    table: np.ndarray,
    vector: np.ndarray,
    depth: int,
    eligible: np.ndarray,
    filtered: np.ndarray,
    searched: np.ndarray,
) -> Lists:
    """The `depth` items of the largest inner product with each user vector, none where that is 0.

    Where `filtered`, a category filter can have left few items, anywhere in the space: up to SCORED of them are all
    scored instead of searched; of more the index reads as many as of a whole catalogue.

    Args:
        index: Over the rows of `table`, float32 [N, d]. vector: float32 [b, d]. filtered: bool [b].
        searched: bool [b], false where there is to be no list.
    """
    item = np.full((len(vector), depth), -1, np.int32)
    weight = np.zeros((len(vector), depth), np.float32)
    for row in np.flatnonzero(np.any(vector, axis=1) & searched).tolist():
        left = int(np.bitwise_count(eligible[row]).sum()) if filtered[row] else len(table)
        if filtered[row] and left <= SCORED:
            among = _rows_of(eligible[row], left)
            score = table[among] @ vector[row]
            best = np.argsort(-score, kind="stable")[:depth]
            item[row, : len(best)], weight[row, : len(best)] = among[best], score[best]
        else:
            item[row], weight[row] = index.search(vector[row], depth, eligible[row])
    return Lists(source, item, weight, depth)


def related(
    source: Source, table: Neighbours, seed: np.ndarray, weight: np.ndarray, depth: int, eligible: np.ndarray
) -> Lists:
    """The `depth` items most related to some items of each user together.

    Args:
        seed: int32 [b, h], rows of the bundle, -1 for none. weight: float32 [b, h], what each counts.
    """
    return Lists(source, *_related(table.item, table.weight, seed, weight, eligible, depth), depth)


def popular(world: World, reach: np.ndarray, eligible: np.ndarray) -> Lists:
    """The first `reach` items of the popular list."""
    item = _first(world.popular, reach, eligible)
    return Lists(Source.POPULAR, item, np.zeros(item.shape, np.float32), item.shape[1])


@njit(cache=True)
def _rows_of(eligible: np.ndarray, count: int) -> np.ndarray:
    """The `count` rows whose bits are set, ascending: int64."""
    rows, found = np.empty(count, np.int64), 0
    for byte in range(len(eligible)):
        if eligible[byte]:
            for bit in range(8):
                if eligible[byte] >> bit & 1:
                    rows[found] = byte * 8 + bit
                    found += 1
    return rows


@njit(cache=True)
def _related(
    table_item: np.ndarray,
    table_weight: np.ndarray,
    seed: np.ndarray,
    seed_weight: np.ndarray,
    eligible: np.ndarray,
    depth: int,
) -> tuple[np.ndarray, np.ndarray]:
    (b, h), k = seed.shape, table_item.shape[1]
    item, weight = np.full((b, depth), -1, np.int32), np.zeros((b, depth), np.float32)
    # A number for each item would be the simplest, and megabytes a call for a large catalogue.
    most = min(h * k, len(table_item))
    size = 16
    while size < 2 * most:
        size *= 2
    mask = np.uint32(size - 1)
    item_at, total_at = np.full(size, -1, np.int32), np.empty(size, np.float32)  # open addressing
    taken, total = np.empty(most, np.uint32), np.empty(most, np.float32)
    touched = np.empty(most, np.int32)
    for row in range(b):
        found = 0
        for slot in range(h):
            of, counts = seed[row, slot], seed_weight[row, slot]
            if of < 0 or counts <= 0:
                continue
            for near in range(k):
                one = table_item[of, near]
                if one < 0:
                    break
                place = slot_of(item_at, one, mask)
                if item_at[place] != one:
                    if not is_eligible(eligible[row], one):
                        continue
                    item_at[place], total_at[place], taken[found] = one, 0, place
                    found += 1
                total_at[place] += counts * table_weight[of, near]
        for cell in range(found):
            place = taken[cell]
            touched[cell], total[cell] = item_at[place], total_at[place]
            item_at[place] = -1
        _strongest(total[:found], touched[:found], item[row], weight[row])
    return item, weight


@njit(cache=True)
def _strongest(total: np.ndarray, touched: np.ndarray, item: np.ndarray, weight: np.ndarray) -> None:
    """The touched items of the largest totals, by falling total and then rising item, as many as `item` has places."""
    depth = min(len(item), len(touched))
    if depth == 0:
        return
    least = np.partition(total, len(total) - depth)[len(total) - depth]
    key = np.empty(len(touched), np.int64)  # (-total, item) as one integer: a positive float's bits order as it does
    kept = 0
    for place in range(len(touched)):
        if total[place] >= least:
            bits = np.int64(total[place : place + 1].view(np.int32)[0])
            key[kept] = (-bits << 32) + touched[place]
            kept += 1
    key[:kept].sort()
    for place in range(depth):
        item[place] = key[place] & 0xFFFFFFFF
        weight[place] = np.array([-(key[place] >> 32)], np.int64).astype(np.int32).view(np.float32)[0]


@njit(cache=True)
def _first(order: np.ndarray, reach: np.ndarray, eligible: np.ndarray) -> np.ndarray:
    widest = 0
    for row in range(len(reach)):
        widest = max(widest, reach[row])
    item = np.full((len(reach), min(widest, len(order))), -1, np.int32)
    for row in range(len(reach)):
        at = 0
        for one in order:
            if at == reach[row]:
                break
            if is_eligible(eligible[row], one):
                item[row, at] = one
                at += 1
    return item
