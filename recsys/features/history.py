"""The newest interactions of users in rows of one bundle."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from recsys.features.user import UserStates
from recsys.verbs import WEIGHT
from recsys.vocabulary import lower_bound

if TYPE_CHECKING:
    from recsys.types import World


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What each user did in rows of one bundle: the ring, newest first, and what is older where the recipe asks for it.

    Attributes:
        item: int32 [b, RING], -1 where the slot is empty or the item is not in the bundle.
        positive: bool [b, RING], true only where `item` >= 0.
        weight: float32 [b, RING], at the newest positive slot of each item the most that one of its slots weighs
            (`recsys.verbs.WEIGHT`); 0 elsewhere.
        known: bool [b], true where any item is in the bundle.
        liked: int32 [b, RING + recipe.older]: `item`, then what left the ring, of which only fingerprints are kept, the
            newest first, -1 where there is no more.
        liked_weight: float32, of the same shape: `weight`, and beyond the ring what one of its items weighs on average,
            since nobody knows any more what was done to them. Without `older` these are `item` and `weight` themselves.
    """

    item: np.ndarray
    positive: np.ndarray
    weight: np.ndarray
    known: np.ndarray
    liked: np.ndarray
    liked_weight: np.ndarray

    @classmethod
    def of(cls, states: UserStates, world: "World") -> "History":
        """Look the keys up in the world's vocabulary. Cost: 0.1 us a fingerprint."""
        key, older = world.bundle.vocabulary.key, world.bundle.recipe.older
        item, positive, weight, known = _look_up(key, states.item_key, states.verb, WEIGHT)
        if not older:
            return cls(item, positive, weight, known, item, weight)
        liked = _with_older(key, item, weight, states.seen, states.seen_count, older)
        return cls(item, positive, weight, known, *liked)


def recency(newest: int, decay: float, b: int) -> np.ndarray:
    """What each of the newest interactions counts, the last one 1: float32 [b, newest]."""
    step = np.float32(decay) ** np.arange(newest, dtype=np.float32)
    return np.broadcast_to(step, (b, newest))


@njit(cache=True)
def _look_up(
    key: np.ndarray, ring: np.ndarray, verb: np.ndarray, verb_weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    b, h = ring.shape
    item = np.full((b, h), -1, np.int32)
    positive, weight = np.zeros((b, h), np.bool_), np.zeros((b, h), np.float32)
    known = np.zeros(b, np.bool_)
    for row in range(b):
        for slot in range(h):
            if ring[row, slot] == 0:
                continue
            place = lower_bound(key, ring[row, slot])
            if place == len(key) or key[place] != ring[row, slot]:
                continue
            item[row, slot] = place
            known[row] = True
            weighs = verb_weight[verb[row, slot]]
            if weighs > 0:
                positive[row, slot] = True
                newest = _newest(item[row, :slot], weight[row, :slot], place)
                weight[row, newest] = max(weight[row, newest], weighs)
    return item, positive, weight, known


@njit(cache=True)
def _with_older(
    key: np.ndarray, ring: np.ndarray, weight: np.ndarray, seen: np.ndarray, seen_count: np.ndarray, older: int
) -> tuple[np.ndarray, np.ndarray]:
    """The ring and the newest `older` fingerprints. An item that is in the ring again counts once, there."""
    b, h = ring.shape
    liked, weighs = np.full((b, h + older), -1, np.int32), np.zeros((b, h + older), np.float32)
    liked[:, :h], weighs[:, :h] = ring, weight
    for row in range(b):
        items, total = 0, np.float32(0)
        for slot in range(h):
            if ring[row, slot] >= 0 and not _is_among(ring[row, :slot], ring[row, slot]):
                items += 1
                total += weight[row, slot]
        if total == 0:
            continue
        usual = total / np.float32(items)
        at = h
        for place in range(seen_count[row] - 1, max(seen_count[row] - older, 0) - 1, -1):
            first = np.uint64(seen[row, place]) << np.uint64(32)
            found = lower_bound(key, first)
            if found == len(key) or key[found] >> np.uint64(32) != np.uint64(seen[row, place]):
                continue
            if not _is_among(liked[row, :at], found):
                liked[row, at], weighs[row, at] = found, usual
                at += 1
    return liked, weighs


@njit(cache=True)
def _is_among(items: np.ndarray, wanted: int | np.integer) -> bool:
    for one in items:  # noqa: SIM110 - numba compiles no `any` of a generator
        if one == wanted:
            return True
    return False


@njit(cache=True)
def _newest(item: np.ndarray, weight: np.ndarray, wanted: int) -> int:
    """The slot that has an item's weight already; else the one after the last."""
    for slot in range(len(item)):
        if weight[slot] > 0 and item[slot] == wanted:
            return slot
    return len(item)
