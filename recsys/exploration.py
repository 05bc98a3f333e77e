"""Which new item a list gives its last place to, by chance, so that items nobody has met yet can be met.

An item that came after training has no interactions, so the ranker puts it behind those that have. With probability
`QueryBatch.explore` a list of at least LEAST items ends with one of the new items that may be shown, each as probable
as the others. That probability is the propensity: who learns from what was shown can weight by its inverse (Bottou et
al., "Counterfactual reasoning and learning systems", JMLR 14, 2013).
"""

import numpy as np
from numba import njit

from recsys.filtering import is_eligible
from recsys.types import QueryBatch, World

LEAST = 5


def draw(world: World, batch: QueryBatch, eligible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The new item of each request, by its seed alone.

    Args:
        eligible: uint8 [b, ceil(N / 8)], as `filtering.eligible` makes it.
    Returns:
        int32 [b], rows of the bundle, -1 for none; float32 [b], the probability with which just this item was drawn.
    """
    fresh = world.bundle.fresh
    if not len(fresh):
        return np.full(len(batch), -1, np.int32), np.zeros(len(batch), np.float32)
    return _draw(batch.seed, batch.count, batch.explore, fresh, eligible)


@njit(cache=True)
def _draw(
    seed: np.ndarray, count: np.ndarray, explore: np.ndarray, fresh: np.ndarray, eligible: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    item, propensity = np.full(len(seed), -1, np.int32), np.zeros(len(seed), np.float32)
    for row in range(len(seed)):
        chance = _mixed(seed[row])
        if count[row] < LEAST or np.float64(chance >> np.uint64(11)) * 2.0**-53 >= explore[row]:
            continue
        shown = 0
        for one in fresh:
            shown += is_eligible(eligible[row], one)
        if shown == 0:
            continue
        left = np.int64(_mixed(chance) % np.uint64(shown))
        for one in fresh:
            if is_eligible(eligible[row], one):
                if left == 0:
                    item[row], propensity[row] = one, explore[row] / shown
                    break
                left -= 1
    return item, propensity


@njit(cache=True)
def _mixed(state: np.uint64) -> np.uint64:
    """The next number of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014)."""
    state = np.uint64(state) + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
