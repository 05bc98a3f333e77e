"""The union of all candidate sources of a micro-batch: how far each is read, and how their lists become one."""

import numpy as np

from recsys.features.history import recency
from recsys.retrieval.fusion import fuse
from recsys.retrieval.sources import Lists, nearest, popular, related
from recsys.types import CandidateSet, QueryBatch, Source, World
from recsys.users import Users

DEPTH = 128  # items that each personal source brings
POPULAR_MIN = 64
TIED = {Source.TRANSITIONS, Source.NEARBY, Source.SIMILAR, Source.HISTORY, Source.CONTENT}  # by tables of neighbours
SEARCHED = 0.5  # quality; below it vectors are not searched: the two searches take a third of all, .003 of NDCG@10 each


def union(world: World, batch: QueryBatch, users: Users, eligible: np.ndarray, explored: np.ndarray) -> CandidateSet:
    """Read every source of the recipe and fuse the lists by reciprocal rank; the best `wanted_candidates` stay.

    `explored`, int32 [b], is a source of one item at most.

    All lists hold eligible items only, and the popular one alone holds more than `count` of them: a list comes back
    short only where the catalogue is.

    Returns:
        Candidates; within a request by falling fused score, then by rising item row.
    """
    wanted = wanted_candidates(world, batch)
    return fused(read(world, batch, users, eligible, explored, wanted, depth=DEPTH), wanted)


def read(
    world: World,
    batch: QueryBatch,
    users: Users,
    eligible: np.ndarray,
    explored: np.ndarray,
    wanted: np.ndarray,
    *,
    depth: int,
    popular_depth: int = 0,
) -> list[Lists]:
    """The list of each source of the recipe, and that of the drawn items.

    Args:
        wanted: int64 [b], as `wanted_candidates`. depth: Of the lists of personal sources. popular_depth: At least so
            deep is the popular one.
    """
    bundle, recipe, history = world.bundle, world.bundle.recipe, users.history
    sources = {Source[name] for name in recipe.sources}
    lists: list[Lists] = []
    filtered = batch.categories.lengths() > 0
    searched = np.full(len(batch), True)
    if batch.quality is not None and sources & TIED:
        searched = filtered | (batch.quality >= SEARCHED)
    for source, index, table, vector in (
        (Source.ALS, bundle.index, bundle.factors, users.vector),
        (Source.SPECTRAL, bundle.spectral_index, bundle.spectral.vector, users.spectral),
    ):
        if source in sources:
            lists.append(nearest(source, index, table, vector, depth, eligible, filtered, searched))
    recent = recency(recipe.recent, recipe.recent_decay, len(batch))
    for source, neighbours, weight in (
        (Source.TRANSITIONS, bundle.transitions, recent),
        (Source.NEARBY, bundle.nearby, recent),
        (Source.SIMILAR, bundle.similar, recent),
        (Source.HISTORY, bundle.similar, history.weight),
        (Source.CONTENT, bundle.content, recent),
    ):
        if source in sources:
            seed = history.item[:, : weight.shape[1]]
            lists.append(related(source, neighbours, seed, weight, depth, eligible))
    if Source.POPULAR in sources:
        personal = len(sources) > 1 and users.history.known
        reach = np.where(personal, np.maximum(_half_more(batch.count), POPULAR_MIN), wanted)
        lists.append(popular(world, np.maximum(reach, popular_depth) if popular_depth else reach, eligible))
    drawn = explored[:, None]
    lists.append(Lists(Source.NEW, drawn, np.zeros(drawn.shape, np.float32), 1))
    return lists


def wanted_candidates(world: World, batch: QueryBatch) -> np.ndarray:
    """Candidates that each request ranks: its share of `world.candidates`, or half more than it asks for. int64 [b]."""
    usual = np.full(len(batch), world.candidates)
    if batch.quality is not None:
        usual = np.ceil(batch.quality.astype(np.float64) * world.candidates).astype(np.int64)
    return np.maximum(usual, _half_more(batch.count))


def _half_more(count: np.ndarray) -> np.ndarray:
    return count.astype(np.int64) * 3 // 2


def fused(lists: list[Lists], wanted: np.ndarray) -> CandidateSet:
    """Some lists as one, of each request at most `wanted`, int64 [b]."""
    return CandidateSet(
        *fuse(
            tuple(one.item for one in lists),
            tuple(one.weight for one in lists),
            tuple(one.length for one in lists),
            tuple(int(one.source) for one in lists),
            wanted,
            len(Source),
            int(Source.NEW),
        )
    )
