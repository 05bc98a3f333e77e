"""The union of all candidate sources of a micro-batch: how far each is read, and how their lists become one."""

import numpy as np

from recsys.features.frame import History
from recsys.features.user import UserStates
from recsys.retrieval.fusion import fuse
from recsys.retrieval.sources import Lists, als, popular, related
from recsys.types import CandidateSet, QueryBatch, Source, World

# ALS depths are powers of two from here, so that requests of one batch share index calls. NDCG@10 on MovieLens-100K:
# .130 with 64, .134 with 128, .133 with 256.
DEPTH_MIN = 128
DEPTH_MAX = 8192
POPULAR_MIN = 64


def union(
    world: World, batch: QueryBatch, states: UserStates, history: History, user_vector: np.ndarray
) -> CandidateSet:
    """Read every source of the recipe and fuse the lists by reciprocal rank.

    The popular list is read so deep that `count` items are left of it alone when all that the user has seen and all
    that the request excludes is taken out: a list comes back short only where the catalogue is.

    Returns:
        Candidates; within a request by falling fused score, then by rising item row.
    """
    recipe = world.bundle.recipe
    sources = {Source[name] for name in recipe.sources}
    allowed = [world.bundle.items_of(wanted) if len(wanted := batch.categories[i]) else None for i in range(len(batch))]
    known = states.length + states.seen_count + batch.excluded.lengths()
    enough = known + _half_more(batch.count)
    personal = np.logical_and(user_vector.any(axis=1), Source.ALS in sources)
    lists: list[Lists] = []
    if Source.ALS in sources:
        lists.append(als(world, user_vector, _depth(enough), allowed, personal))
    for source, table, recent in (
        (Source.TRANSITIONS, world.bundle.transitions, recipe.transitions_recent),
        (Source.SIMILAR, world.bundle.similar, recipe.similar_recent),
    ):
        if source in sources:
            lists.append(related(source, table, history, recent, recipe.recent_decay))
    if Source.POPULAR in sources:
        reach = np.where(personal, enough, known + wanted_candidates(world, batch))
        lists.append(popular(world, np.maximum(reach, POPULAR_MIN), allowed))
    return _fuse(lists)


def wanted_candidates(world: World, batch: QueryBatch) -> np.ndarray:
    """Candidates that each request ranks: `world.candidates`, or half more than it asks for. int64 [b]."""
    return np.maximum(world.candidates, _half_more(batch.count))


def _half_more(count: np.ndarray) -> np.ndarray:
    return count.astype(np.int64) * 3 // 2


def _depth(enough: np.ndarray) -> np.ndarray:
    """How far down each request reads its ALS list: int64 [b], powers of two."""
    needed = np.maximum(enough, DEPTH_MIN)
    return np.minimum(1 << np.ceil(np.log2(needed)).astype(np.int64), DEPTH_MAX)


def _fuse(lists: list[Lists]) -> CandidateSet:
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
    return CandidateSet(*fuse(item, weight, position, source, len(Source)))
