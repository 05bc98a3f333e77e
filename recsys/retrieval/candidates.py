"""The union of all candidate sources of a micro-batch: how far each is read, and how their lists become one."""

import numpy as np

from recsys.retrieval.fusion import fuse
from recsys.retrieval.sources import Lists, als, popular, related
from recsys.types import CandidateSet, QueryBatch, Source, World
from recsys.users import Users

ALS_DEPTH = 128
POPULAR_MIN = 64


def union(world: World, batch: QueryBatch, users: Users, eligible: np.ndarray, explored: np.ndarray) -> CandidateSet:
    """Read every source of the recipe and fuse the lists by reciprocal rank; the best `wanted_candidates` stay.

    `explored`, int32 [b], is a source of one item at most.

    All lists hold eligible items only, and the popular one alone holds more than `count` of them: a list comes back
    short only where the catalogue is.

    Returns:
        Candidates; within a request by falling fused score, then by rising item row.
    """
    recipe = world.bundle.recipe
    sources = {Source[name] for name in recipe.sources}
    wanted = wanted_candidates(world, batch)
    lists: list[Lists] = []
    filler = wanted
    if Source.ALS in sources:
        has_taste: np.ndarray = np.any(users.vector, axis=1)
        filler = np.where(has_taste, np.maximum(_half_more(batch.count), POPULAR_MIN), wanted)
        exact = batch.categories.lengths() > 0
        lists.append(als(world, users.vector, ALS_DEPTH, eligible, has_taste, exact))
    for source, table, recent in (
        (Source.TRANSITIONS, world.bundle.transitions, recipe.transitions_recent),
        (Source.SIMILAR, world.bundle.similar, recipe.similar_recent),
    ):
        if source in sources:
            lists.append(related(source, table, users.history, recent, recipe.recent_decay, eligible))
    if Source.POPULAR in sources:
        lists.append(popular(world, filler, eligible))
    drawn = explored[:, None]
    lists.append(Lists(Source.NEW, drawn, np.zeros(drawn.shape, np.float32), 1))
    return _fused(lists, wanted)


def wanted_candidates(world: World, batch: QueryBatch) -> np.ndarray:
    """Candidates that each request ranks: `world.candidates`, or half more than it asks for. int64 [b]."""
    return np.maximum(world.candidates, _half_more(batch.count))


def _half_more(count: np.ndarray) -> np.ndarray:
    return count.astype(np.int64) * 3 // 2


def _fused(lists: list[Lists], wanted: np.ndarray) -> CandidateSet:
    return CandidateSet(
        *fuse(
            tuple(one.item for one in lists),
            tuple(one.weight for one in lists),
            tuple(one.length for one in lists),
            tuple(int(one.source) for one in lists),
            wanted,
            len(Source),
        )
    )
