"""The candidate sources: each reads ranked lists for the requests of a micro-batch."""

from dataclasses import dataclass

import numpy as np

from recsys.features.frame import History
from recsys.retrieval.neighbours import Neighbours
from recsys.types import Source, World


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """Ranked lists of one source, `w` columns a request; several lists may stand side by side.

    Attributes:
        item: int32 [b, w], rows of the bundle, -1 for none.
        position: int64 [w], each column's place in its list, 0 first.
        weight: float32 [b, w], or None where the source has no weights.
    """

    source: Source
    item: np.ndarray
    position: np.ndarray
    weight: np.ndarray | None = None


def als(
    world: World, user_vector: np.ndarray, reach: np.ndarray, allowed: list[np.ndarray | None], personal: np.ndarray
) -> Lists:
    """The nearest items of each user vector, `reach` of them; none where not `personal`.

    A category filter can leave few items anywhere in the space, so all that it allows are scored instead of searched.
    """
    b = len(reach)
    item = np.full((b, int(reach.max(initial=0))), -1, np.int32)
    filtered = np.array([one is not None for one in allowed], bool)
    for k in np.unique(reach[personal & ~filtered]):
        rows = np.flatnonzero((reach == k) & personal & ~filtered)
        item[rows, :k] = world.bundle.index.search(user_vector[rows], int(k))
    for row, among in enumerate(allowed):
        if among is not None and personal[row]:
            best = np.argsort(-(world.bundle.factors[among] @ user_vector[row]), kind="stable")[: reach[row]]
            item[row, : len(best)] = among[best]
    return Lists(Source.ALS, item, np.arange(item.shape[1]))


def related(source: Source, table: Neighbours, history: History, recent: int, decay: float) -> Lists:
    """Items related to each of the newest interactions, one list for each, weighted less for each step back."""
    b, k = len(history.item), table.item.shape[1]
    seeds = history.item[:, :recent]
    item = np.where(seeds[..., None] >= 0, table.item[seeds], np.int32(-1))
    weight = table.weight[seeds] * (np.float32(decay) ** np.arange(recent, dtype=np.float32))[:, None]
    width = recent * k
    return Lists(source, item.reshape(b, width), np.arange(width) % k, weight.reshape(b, width))


def popular(world: World, reach: np.ndarray, allowed: list[np.ndarray | None]) -> Lists:
    """The first `reach` available items by falling trend, of the allowed categories."""
    order = world.item_stats.order
    item = np.full((len(reach), int(min(reach.max(initial=0), len(order)))), -1, np.int32)
    for row, among in enumerate(allowed):
        mine = order
        if among is not None:
            mask = np.zeros(len(world.bundle.vocabulary), bool)
            mask[among] = True
            mine = order[mask[order]]
        mine = mine[: reach[row]]
        item[row, : len(mine)] = mine
    return Lists(Source.POPULAR, item, np.arange(item.shape[1]))
