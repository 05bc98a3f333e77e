"""The candidate sources: each reads ranked lists of eligible items for the requests of a micro-batch."""

from dataclasses import dataclass

import numpy as np
from numba import njit

from recsys.features.history import History
from recsys.filtering import is_eligible
from recsys.retrieval.neighbours import Neighbours
from recsys.types import Source, World


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


def als(
    world: World, vector: np.ndarray, depth: int, eligible: np.ndarray, has_taste: np.ndarray, exact: np.ndarray
) -> Lists:
    """The `depth` nearest items of each user vector, none where not `has_taste`.

    Where `exact`, all eligible items are scored instead of searched: a category filter can leave few of them
    anywhere in the space.
    """
    item = np.full((len(vector), depth), -1, np.int32)
    for row in np.flatnonzero(has_taste).tolist():
        if exact[row]:
            among = np.flatnonzero(np.unpackbits(eligible[row], bitorder="little"))
            best = np.argsort(-(world.bundle.factors[among] @ vector[row]), kind="stable")[:depth]
            item[row, : len(best)] = among[best]
        else:
            item[row] = world.bundle.index.search(vector[row], depth, eligible[row])
    return Lists(Source.ALS, item, np.zeros(item.shape, np.float32), depth)


def related(
    source: Source, table: Neighbours, history: History, recent: int, decay: float, eligible: np.ndarray
) -> Lists:
    """Items related to each of the newest interactions, one list for each, weighted less for each step back."""
    step = np.float32(decay) ** np.arange(recent, dtype=np.float32)
    return Lists(source, *_related(table.item, table.weight, history.item, step, eligible), table.item.shape[1])


def popular(world: World, reach: np.ndarray, eligible: np.ndarray) -> Lists:
    """The first `reach` items by falling trend."""
    item = _first(world.item_stats.order, reach, eligible)
    return Lists(Source.POPULAR, item, np.zeros(item.shape, np.float32), item.shape[1])


@njit(cache=True)
def _related(
    table_item: np.ndarray, table_weight: np.ndarray, seed: np.ndarray, step: np.ndarray, eligible: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    b, k = len(seed), table_item.shape[1]
    item = np.full((b, len(step) * k), -1, np.int32)
    weight = np.zeros((b, len(step) * k), np.float32)
    for row in range(b):
        for back in range(len(step)):
            of = seed[row, back]
            if of < 0:
                continue
            at = back * k
            for near in range(k):
                one = table_item[of, near]
                if one >= 0 and is_eligible(eligible[row], one):
                    item[row, at] = one
                    weight[row, at] = table_weight[of, near] * step[back]
                    at += 1
    return item, weight


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
