"""Why the items of one list are on it: all that is known of it, each part exact or run again."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from recsys.explanations.contributions import Contributions, contributions
from recsys.explanations.counterfactuals import Counterfactuals, counterfactuals
from recsys.explanations.places import Places, places
from recsys.explanations.trace import Trace, ranks_in
from recsys.recommend import features
from recsys.types import QueryBatch, World

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Of one list of `t` items.

    Attributes:
        contributions: To the score of each item, beside all candidates of the request.
        places: Of the items in the list of each source.
        by_score: int32 [t], the rank of each by its score alone.
    """

    trace: Trace
    contributions: Contributions
    places: list[Places]
    by_score: np.ndarray
    counterfactuals: Counterfactuals


def explanation(world: World, batch: QueryBatch) -> Generator[None, None, Explanation]:
    """Explain the list of a request, alone in its batch.

    Yields after each of its steps, so that whoever computes beside others can let them have a turn.
    """
    trace = Trace.of(world, batch)
    listed = trace.listed(0)
    yield
    found = contributions_of(trace, listed)
    yield
    offered = places(trace, listed)
    yield
    by_score = ranks_in(trace.by_score(0), listed)
    return Explanation(trace, found, offered, by_score, (yield from counterfactuals(trace)))


def contributions_of(trace: Trace, item: np.ndarray, against: np.ndarray | None = None) -> Contributions:
    """Of some candidates of a request, alone in its batch, beside others; None: beside all. int32 items."""
    world, candidates = trace.world, trace.retrieved.candidates
    assert world.bundle.ranker is not None  # of whatever is served
    matrix = features(world, trace.batch, trace.retrieved)
    order = np.argsort(candidates.item)

    def cells(wanted: np.ndarray) -> np.ndarray:
        return order[np.searchsorted(candidates.item, wanted, sorter=order)]

    others = np.arange(len(candidates.item)) if against is None else cells(against)
    return contributions(world.bundle.ranker, matrix, cells(item), others, candidates.by_chance())


def finished(steps: Generator[None, None, T]) -> T:
    """What the steps come to, all of them taken at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
