"""One micro-batch through the stages of `recommend`, with nothing thrown away."""

from dataclasses import dataclass, replace

import numpy as np

from recsys.recommend import Ranked, Retrieved, rank, retrieve, slate
from recsys.types import QueryBatch, Ragged, Slates, World


@dataclass(frozen=True, eq=False)
class Trace:
    """What each stage made. `slates` is what `recommend(world, batch)` returns."""

    world: World
    batch: QueryBatch
    retrieved: Retrieved
    ranked: Ranked
    slates: Slates

    @classmethod
    def of(cls, world: World, batch: QueryBatch) -> "Trace":
        """Run the stages."""
        retrieved = retrieve(world, batch)
        ranked = rank(world, batch, retrieved)
        return cls(world, batch, retrieved, ranked, slate(world, batch, retrieved, ranked))

    def listed(self, row: int) -> np.ndarray:
        """The items of one list, best first, int32 [t]."""
        return self.slates.item[self.slates.indptr[row] : self.slates.indptr[row + 1]]

    def cells(self, row: int) -> slice:
        """The candidates of one request."""
        return slice(*self.retrieved.candidates.indptr[row : row + 2].tolist())

    def order(self, depth: int) -> Ragged:
        """The list of each request and who would follow if it were `depth` items long, best first: int32 items.

        Selection is greedy, so what would follow depends on no item behind it. Whom quotas keep out is not in it.
        """
        longer = np.minimum(self.retrieved.candidates.sizes(), np.maximum(self.batch.count, depth))
        longest = slate(self.world, replace(self.batch, count=longer.astype(np.int32)), self.retrieved, self.ranked)
        orders = []
        for row in range(len(self.batch)):
            then = longest.item[longest.indptr[row] : longest.indptr[row + 1]]
            orders.append(np.concatenate((self.listed(row), then[~np.isin(then, self.listed(row))])))
        return Ragged.of(orders, np.int32)

    def ranks(self, item: np.ndarray, depth: int) -> np.ndarray:
        """The rank of some items in `order`; 0 where an item is not in it. int32 [n] -> int32 [b, n]."""
        order = self.order(depth)
        return np.stack([ranks_in(order[row], item) for row in range(len(self.batch))])

    def by_score(self, row: int) -> np.ndarray:
        """All candidates of one request by their scores alone, best first; what chance brought comes last. int32."""
        candidates, cells = self.retrieved.candidates, self.cells(row)
        worth = np.where(candidates.by_chance()[cells], -np.inf, self.ranked.score[cells])
        return candidates.item[cells][np.argsort(-worth, kind="stable")]


def ranks_in(order: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Where some items are among others that are distinct, from 1; 0 where one is not. int32 [n] -> int32 [n]."""
    if not len(order):
        return np.zeros(len(item), np.int32)
    by_item = np.argsort(order)
    at = by_item[np.minimum(np.searchsorted(order, item, sorter=by_item), len(order) - 1)]
    return np.where(order[at] == item, at + 1, 0).astype(np.int32)
