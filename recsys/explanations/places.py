"""Where an item stands in the list of each source."""

from dataclasses import dataclass

import numpy as np

from recsys import filtering
from recsys.explanations.trace import Trace
from recsys.retrieval import candidates
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
    world, batch = trace.world, trace.batch
    users = trace.retrieved.users_of(world, batch)
    eligible, _ = filtering.eligible(world, batch, users)
    everything = len(world.bundle.vocabulary)
    lists = candidates.read(
        world,
        batch,
        users,
        eligible,
        trace.retrieved.explored,
        candidates.wanted_candidates(world, batch),
        depth=everything if whole else candidates.DEPTH,
        popular_depth=everything if whole else 0,
    )
    found = []
    for one in lists:
        held = one.item[0]
        at = np.argmax(held[None] == item[:, None], axis=1) if len(held) else np.zeros(len(item), np.int64)
        is_in = held[at] == item if len(held) else np.zeros(len(item), bool)
        place = np.where(is_in, at % max(one.length, 1) + 1, 0).astype(np.int32)
        found.append(Places(one.source, place, int((held >= 0).sum())))
    return found
