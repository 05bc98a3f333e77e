"""Why an item was a candidate, in codes: read off the same tables that retrieval read."""

import numpy as np

from recsys.retrieval.neighbours import Neighbours
from recsys.types import Source, World


def reasons(world: World, recent: np.ndarray, item: int, sources: int) -> list[str]:
    """Reason codes of one item, e.g. `follows:<item_id>`, `near:<item_id>`, `similar_to:<item_id>`,
    `described_like:<item_id>`, `similar_taste`, `new`, `popular`.

    Args:
        recent: int32 [h], the user's newest interactions in rows of the bundle, newest first, -1 for unknown.
        item: Row of the item. sources: Its bits of `Source`.
    """
    recipe = world.bundle.recipe
    codes = []
    for source, code, table, depth, decay in (
        (Source.TRANSITIONS, "follows", world.bundle.transitions, recipe.recent, recipe.recent_decay),
        (Source.NEARBY, "near", world.bundle.nearby, recipe.recent, recipe.recent_decay),
        (Source.SIMILAR, "similar_to", world.bundle.similar, recipe.recent, recipe.recent_decay),
        (Source.HISTORY, "similar_to", world.bundle.similar, len(recent), 1.0),
        (Source.CONTENT, "described_like", world.bundle.content, recipe.recent, recipe.recent_decay),
    ):
        if sources >> source & 1:
            cause = _strongest(table, recent[:depth], item, decay)
            found = f"{code}:{world.bundle.vocabulary.item_id[cause]}"
            if found not in codes:
                codes.append(found)
    if sources >> Source.ALS & 1 or sources >> Source.SPECTRAL & 1:
        codes.append("similar_taste")
    if sources >> Source.NEW & 1:
        codes.append("new")
    if sources == 1 << Source.POPULAR:  # the popular list is read deep, so being in it says little beside others
        codes.append("popular")
    return codes


def _strongest(table: Neighbours, recent: np.ndarray, item: int, decay: float) -> int:
    """The recent item that contributed most to a candidate of this table."""
    weight = np.where(table.item[recent] == item, table.weight[recent], 0).max(axis=1)
    return int(recent[np.argmax(np.where(recent >= 0, weight * decay ** np.arange(len(recent)), -1))])
