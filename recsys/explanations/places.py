"""Where an item stands in the list of each source."""

from dataclasses import dataclass

import numpy as np

from recsys import filtering
from recsys.explanations.trace import Trace, ranks_in
from recsys.retrieval import candidates
from recsys.retrieval.sources import Lists
from recsys.types import Source


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """The places of some items in one source's list.

    Attributes:
        place: int32 [n], from 1; 0 where the item is not in it.
        length: How many items the list holds.
    """

    source: Source
    place: np.ndarray
    length: int


def places(trace: Trace, item: np.ndarray, *, whole: bool = False) -> list[Places]:
    """Of each source of the recipe, for a request alone in its batch. item: int32 [n].

    Args:
        whole: Read each source to its end: where would an item be that the source did not bring?
    """
    found = []
    for one in _lists(trace, whole=whole):
        held = one.item[0][one.item[0] >= 0]
        found.append(Places(one.source, ranks_in(held, item), len(held)))
    return found


def fused_place(trace: Trace, item: np.ndarray) -> int:
    """Where all lists together put one item, int32 [1], from 1; 0 where none has it."""
    everything = np.full(1, len(trace.world.bundle.vocabulary))
    return int(ranks_in(candidates.fused(_lists(trace), everything).item, item)[0])


def _lists(trace: Trace, *, whole: bool = False) -> list[Lists]:
    world, batch = trace.world, trace.batch
    users = trace.retrieved.users_of(world, batch)
    eligible, _ = filtering.eligible(world, batch, users)
    everything = len(world.bundle.vocabulary)
    return candidates.read(
        world,
        batch,
        users,
        eligible,
        trace.retrieved.explored,
        candidates.wanted_candidates(world, batch),
        depth=everything if whole else candidates.DEPTH,
        popular_depth=everything if whole else 0,
    )
