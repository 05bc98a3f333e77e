"""What a bundle is compared with: the same world with one source and no ranker, through the same `recommend`."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from recsys.evaluation.answers import Score
from recsys.evaluation.ease import ease_score
from recsys.recommend import Retrieved
from recsys.training.log import Log
from recsys.types import QueryBatch, Source, World


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """A world, and what orders its candidates instead of its ranker."""

    world: World
    score: Score | None = None


def baselines(world: World) -> dict[str, Pipeline]:
    """Popularity and each source of the bundle alone; where it is silent, popularity speaks.

    Transitions are those of the last interaction. Popularity is that of the bundle's window, and of all time.
    """
    last = replace(world, bundle=replace(world.bundle, recipe=msgspec.structs.replace(world.bundle.recipe, recent=1)))
    ever = replace(
        world, bundle=replace(world.bundle, recipe=msgspec.structs.replace(world.bundle.recipe, popular="ever"))
    )
    return {
        "ALS": alone(world, Source.ALS),
        "spectral": alone(world, Source.SPECTRAL),
        "item-item": alone(world, Source.HISTORY),
        "last-item transitions": alone(last, Source.TRANSITIONS),
        "popularity": Pipeline(only(world, Source.POPULAR)),
        "popularity of all time": Pipeline(only(ever, Source.POPULAR)),
    }


def with_ease(world: World, past: Log) -> dict[str, Pipeline]:
    """EASE, fitted on what the bundle was, with all items as candidates; nothing where the catalogue is too large."""
    score = ease_score(world.bundle.vocabulary, past)
    if score is None:
        return {}
    return {"EASE": Pipeline(replace(only(world, Source.POPULAR), candidates=len(world.bundle.vocabulary)), score)}


def only(world: World, *sources: Source) -> World:
    """The same world with some sources only and no ranker."""
    recipe = msgspec.structs.replace(world.bundle.recipe, sources=tuple(source.name for source in sources))
    return replace(world, bundle=replace(world.bundle, recipe=recipe, ranker=None))


def alone(world: World, source: Source) -> Pipeline:
    """One source, and popularity where it is silent."""
    return Pipeline(only(world, source, Source.POPULAR), _by(source))


def _by(source: Source) -> Callable[[World, QueryBatch, Retrieved], np.ndarray]:
    def score(_world: World, _batch: QueryBatch, retrieved: Retrieved) -> np.ndarray:
        candidates = retrieved.candidates
        brought = candidates.sources >> source & 1 > 0
        own = candidates.source_score[source].astype(np.float64)
        lowest = own.min(initial=0.0)
        # Popularity's own order is that of the fused scores of what it alone brought; all of those lie below 1.
        return np.where(brought, own - lowest + 1, candidates.retrieval_score)

    return score
