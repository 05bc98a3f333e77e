"""The union of all candidate sources of a micro-batch: ranked lists in, one `CandidateSet` out."""

import numpy as np

from recsys.features.frame import History
from recsys.features.user import UserStates
from recsys.retrieval.fusion import fuse
from recsys.retrieval.neighbours import Neighbours
from recsys.types import CandidateSet, QueryBatch, Source, World

POPULAR_MIN = 64  # popular items offered to everybody; users without a vector get a full list of them
DEPTH_MIN = 256  # depths are powers of two from here, so that requests of one batch share index calls
DEPTH_MAX = 8192


def depth(world: World, batch: QueryBatch, states: UserStates) -> np.ndarray:
    """How far down each request reads its ALS list, so that its count is left when all it has seen is taken out.

    int64 [b], powers of two.
    """
    known = states.length + states.seen_count + batch.excluded.lengths()
    needed = np.maximum(known + _half_more(batch.count), max(DEPTH_MIN, world.candidates))
    return np.minimum(1 << np.ceil(np.log2(needed)).astype(np.int64), DEPTH_MAX)


def wanted_candidates(world: World, batch: QueryBatch) -> np.ndarray:
    """Candidates that each request ranks: `world.candidates`, or half more than it asks for. int64 [b]."""
    return np.maximum(world.candidates, _half_more(batch.count))


def _half_more(count: np.ndarray) -> np.ndarray:
    return count.astype(np.int64) * 3 // 2


def union(
    world: World, batch: QueryBatch, states: UserStates, history: History, user_vector: np.ndarray
) -> CandidateSet:
    """Read every source and fuse the lists by reciprocal rank.

    Within a request the cells come out by falling fused score, then by rising item row.
    """
    reach = depth(world, batch, states)
    allowed = [_allowed(world, batch, i) for i in range(len(batch))]
    recipe = world.bundle.recipe
    sources = {Source[name] for name in recipe.sources}
    # Who has a vector is filled up by ALS and needs only the head of the popular list.
    personal = np.logical_and(history.positive.any(axis=1), Source.ALS in sources)
    lists = []
    if Source.ALS in sources:
        lists.append(_als(world, user_vector, personal, reach, allowed))
    if Source.TRANSITIONS in sources:
        lists.append(
            _related(
                Source.TRANSITIONS,
                world.bundle.transitions,
                history,
                recipe.transitions_recent,
                recipe.recent_decay,
            )
        )
    if Source.SIMILAR in sources:
        lists.append(
            _related(Source.SIMILAR, world.bundle.similar, history, recipe.similar_recent, recipe.recent_decay)
        )
    if Source.POPULAR in sources:
        lists.append(_popular(world, personal, reach, allowed))
    return _fuse(lists)


def _allowed(world: World, batch: QueryBatch, row: int) -> np.ndarray | None:
    """Items of the wanted categories, ascending int32, or None where the request does not filter."""
    wanted = batch.categories[row]
    return world.bundle.items_of(wanted) if len(wanted) else None


class _Lists:
    """Ranked lists of one source: item int32 [b, w] (-1 = none), with position in its list and weight per column."""

    __slots__ = ("item", "position", "source", "weight")

    def __init__(
        self, source: Source, item: np.ndarray, position: np.ndarray, weight: np.ndarray | None = None
    ) -> None:
        self.source, self.item, self.position, self.weight = source, item, position, weight


def _als(
    world: World,
    user_vector: np.ndarray,
    personal: np.ndarray,
    reach: np.ndarray,
    allowed: list[np.ndarray | None],
) -> _Lists:
    b, width = len(reach), int(reach.max(initial=0))
    item = np.full((b, width), -1, np.int32)
    filtered = np.array([one is not None for one in allowed], bool)
    for k in np.unique(reach[personal & ~filtered]):
        rows = np.flatnonzero((reach == k) & personal & ~filtered)
        item[rows, :k] = world.bundle.index.search(user_vector[rows], int(k))
    for row in np.flatnonzero(personal & filtered):
        # A filter can leave few items anywhere in the space: score all that it allows instead of searching.
        among = allowed[row]
        best = np.argsort(-(world.bundle.factors[among] @ user_vector[row]), kind="stable")[: reach[row]]
        item[row, : len(best)] = among[best]  # type: ignore[index]
    return _Lists(Source.ALS, item, np.arange(width))


def _related(source: Source, table: Neighbours, history: History, recent: int, decay: float) -> _Lists:
    """Items related to the newest interactions, weighted less for each step back."""
    b, k = len(history.item), table.item.shape[1]
    seeds = history.item[:, :recent]
    item = np.where(seeds[..., None] >= 0, table.item[seeds], np.int32(-1))
    weight = table.weight[seeds] * (np.float32(decay) ** np.arange(recent, dtype=np.float32))[:, None]
    return _Lists(source, item.reshape(b, -1), np.tile(np.arange(k), recent), weight.reshape(b, -1))


def _popular(world: World, personal: np.ndarray, reach: np.ndarray, allowed: list[np.ndarray | None]) -> _Lists:
    order = world.item_stats.order
    b, width = len(reach), int(reach.max(initial=0))
    if personal.all() and all(one is None for one in allowed):
        width = POPULAR_MIN
    item = np.full((b, width), -1, np.int32)
    for row in range(b):
        among = allowed[row]
        if among is not None:
            mask = np.zeros(len(world.bundle.vocabulary), bool)
            mask[among] = True
            top = order[mask[order]][: reach[row]]
        else:
            top = order[: POPULAR_MIN if personal[row] else reach[row]]
        item[row, : len(top)] = top
    return _Lists(Source.POPULAR, item, np.arange(width))


def _fuse(lists: list[_Lists]) -> CandidateSet:
    """Bring equal items of a request together; without any list there are no candidates."""
    item = np.concatenate([one.item for one in lists], axis=1)
    weight = np.zeros(item.shape, np.float32)
    start = 0
    for one in lists:
        end = start + one.item.shape[1]
        if one.weight is not None:
            weight[:, start:end] = one.weight
        start = end
    position = np.concatenate([one.position for one in lists])
    source = np.repeat([int(one.source) for one in lists], [one.item.shape[1] for one in lists])
    bounds, items, bits, fused, weights = fuse(item, weight, position, source, len(Source))
    return CandidateSet(bounds, items, bits, fused, weights)
