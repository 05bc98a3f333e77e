"""What each of a user's interactions adds to the score that a source gives an item."""

from dataclasses import dataclass

import numpy as np

from recsys.features.history import recency
from recsys.retrieval.neighbours import Neighbours
from recsys.training.evidence import Table
from recsys.types import Source, World
from recsys.users import Users

TABLE_OF: dict[Source, Table] = {  # that events make
    Source.TRANSITIONS: "transitions",
    Source.NEARBY: "nearby",
    Source.SIMILAR: "similar",
    Source.HISTORY: "similar",
}
_TABLE = {**TABLE_OF, Source.CONTENT: "content"}


@dataclass(frozen=True, slots=True)
class Contribution:
    """One of them.

    Attributes:
        item: Row of what the user did something with. adds: Of the source's score; all of them are that score.
        weight: Of the table's cell that was read; None of a source without a table.
    """

    item: int
    adds: float
    weight: float | None


def contributions(world: World, users: Users, row: int, item: int, source: Source) -> list[Contribution]:
    """The interactions behind a source's score of an item, that which adds most first; none where nothing is personal.

    Args:
        row: The user's, in `users`. item: A row of the bundle.
    """
    bundle, recipe, history = world.bundle, world.bundle.recipe, users.history
    if source in _TABLE:
        table: Neighbours = getattr(bundle, _TABLE[source])
        weight = history.weight[row] if source is Source.HISTORY else recency(recipe.recent, recipe.recent_decay, 1)[0]
        return _of_table(table, history.item[row, : len(weight)], weight, item)
    if source is Source.ALS:
        return _of_vectors(history.liked[row], _folded_in(world, users, row, item))
    if source is Source.SPECTRAL:
        of, liked = bundle.spectral, history.liked[row]
        share = history.liked_weight[row] / of.count[liked]
        return _of_vectors(
            liked, np.where(history.liked_weight[row] > 0, share * (of.vector[liked] @ of.vector[item]), 0)
        )
    return []


def _of_table(table: Neighbours, recent: np.ndarray, counts: np.ndarray, item: int) -> list[Contribution]:
    found: dict[int, Contribution] = {}
    for one, share in zip(recent.tolist(), counts.tolist(), strict=True):
        if one < 0 or share <= 0:
            continue
        cell = np.flatnonzero(table.item[one] == item)
        if len(cell):
            weight = float(table.weight[one, cell[0]])
            before = found[one].adds if one in found else 0.0
            found[one] = Contribution(one, before + share * weight, weight)
    return sorted(found.values(), key=lambda one: -one.adds)


def _folded_in(world: World, users: Users, row: int, item: int) -> np.ndarray:
    """Hu, Koren, Volinsky, ICDM 2008, section 5: the score is a sum over what the user liked, float64 [h]."""
    bundle, alpha = world.bundle, world.bundle.recipe.als_alpha
    liked, weight = users.history.liked[row], users.history.liked_weight[row].astype(np.float64)
    known = bundle.factors[liked].astype(np.float64)
    a = bundle.gram + alpha * (known * weight[:, None]).T @ known
    towards = np.linalg.solve(a, bundle.factors[item].astype(np.float64))
    return np.where(weight > 0, (1 + alpha * weight) * (known @ towards), 0)


def _of_vectors(liked: np.ndarray, adds: np.ndarray) -> list[Contribution]:
    by_falling = np.argsort(-adds, kind="stable")
    return [
        Contribution(int(liked[place]), float(adds[place]), None) for place in by_falling.tolist() if adds[place] != 0
    ]
