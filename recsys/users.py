"""The users of a micro-batch in terms of one bundle: what both retrieval and ranking start from."""

from dataclasses import dataclass

import numpy as np

from recsys.features.history import History
from recsys.features.user import UserStates, room, update
from recsys.retrieval.fold_in import fold_in
from recsys.retrieval.spectral import spectral_vectors
from recsys.types import QueryBatch, World
from recsys.verbs import Verb


@dataclass(frozen=True, slots=True, eq=False)
class Users:
    """What is known of each user.

    Attributes:
        states: UserStates [b], the session's items applied.
        history: Their rings in rows of the bundle.
        vector: float32 [b, d], folded in from what they liked (`History.liked`); 0 without anything.
        spectral: float32 [b, d'], their sum in the bundle's spectral space; 0 without one.
    """

    states: UserStates
    history: History
    vector: np.ndarray
    spectral: np.ndarray

    @classmethod
    def of(cls, world: World, batch: QueryBatch) -> "Users":
        """Read the batch's users with a bundle's eyes."""
        bundle = world.bundle
        states = with_session(batch)
        history = History.of(states, world)
        alpha = bundle.recipe.als_alpha
        vector = fold_in(bundle.factors, bundle.gram, history.liked, history.liked_weight, alpha=alpha)
        of = bundle.spectral
        spectral = spectral_vectors(of.vector, of.count, history.liked, history.liked_weight)
        return cls(states, history, vector, spectral)


def with_session(batch: QueryBatch) -> UserStates:
    """The states after the session's items, each applied as a click at `now`; the batch is left as it is."""
    lengths = batch.session.lengths()
    if not lengths.any():
        return batch.states
    states = batch.states.take(np.arange(len(batch)))
    widest = int((states.length + states.seen_count + lengths).max())
    states.seen = np.pad(states.seen, ((0, 0), (0, max(0, room(widest) - states.seen.shape[1]))))
    for step in range(int(lengths.max())):
        rows = np.flatnonzero(lengths > step)
        update(
            states,
            rows,
            item_key=batch.session.values[batch.session.indptr[rows] + step],
            verb=np.full(len(rows), Verb.CLICK, np.uint8),
            ts_s=batch.now_s[rows].astype(np.uint32),
        )
    return states
