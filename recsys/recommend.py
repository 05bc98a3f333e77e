"""The recommender: `recommend(world, batch) -> slates`.

No I/O, no clock, no global chance. Row `i` of the answer depends on row `i` of the batch alone, bit for bit.
`retrieve` and `rank` are the same stages one by one, for topologies that run them in different processes.
"""

from dataclasses import dataclass

import numpy as np

from recsys import filtering
from recsys.features.frame import Frame, History
from recsys.features.matrix import feature_matrix
from recsys.features.user import UserStates, room, update
from recsys.retrieval.candidates import union
from recsys.retrieval.fold_in import fold_in
from recsys.selection import select
from recsys.types import CandidateSet, QueryBatch, Slates, World
from recsys.verbs import Verb


@dataclass(frozen=True, slots=True, eq=False)
class Retrieved:
    """What retrieval hands to ranking.

    Attributes:
        states: UserStates [b], the session's items applied. history: Their rings in rows of the bundle.
        candidates: CandidateSet [m], filtered.
        user_vector: float32 [b, d].
        removed: int64 [b, len(Reason)].
        personal: bool [b], true where any interaction of the user is in the bundle.
    """

    states: UserStates
    history: History
    candidates: CandidateSet
    user_vector: np.ndarray
    removed: np.ndarray
    personal: np.ndarray


def recommend(world: World, batch: QueryBatch) -> Slates:
    """Lists for a micro-batch of requests.

    Args:
        world: The bundle and item stats that the whole batch is pinned to; its ranker is set.
        batch: QueryBatch [b].
    Returns:
        Slates [b]. A request's list is shorter than its `count` only where fewer items are eligible.
    """
    retrieved = retrieve(world, batch)
    return slate(retrieved, rank(world, batch, retrieved), batch.count)


def retrieve(world: World, batch: QueryBatch) -> Retrieved:
    """Candidates of each request: all sources, then all filters."""
    states = with_session(batch)
    history = History.of(states, world)
    recipe = world.bundle.recipe
    vector = fold_in(world.bundle.factors, world.bundle.gram, history.item, history.distinct, alpha=recipe.als_alpha)
    found = union(world, batch, states, history, vector)
    kept, removed = filtering.keep(world, batch, states, found)
    return Retrieved(states, history, kept, vector, removed, np.any(history.item >= 0, axis=1))


def features(world: World, batch: QueryBatch, retrieved: Retrieved) -> np.ndarray:
    """The ranker's input for all candidates, float32 [m, F]."""
    return feature_matrix(
        Frame(world, retrieved.states, batch.now_s, retrieved.history, retrieved.user_vector, retrieved.candidates)
    )


def rank(world: World, batch: QueryBatch, retrieved: Retrieved) -> np.ndarray:
    """The ranker's score of every candidate, float64 [m]: one model call for the whole batch."""
    if world.bundle.ranker is None:
        return retrieved.candidates.retrieval_score.astype(np.float64)
    return world.bundle.ranker.score(features(world, batch, retrieved))


def slate(retrieved: Retrieved, score: np.ndarray, count: np.ndarray) -> Slates:
    """The lists, from candidates and their scores."""
    candidates = retrieved.candidates
    cells = select(candidates, score, count)
    sizes = np.minimum(candidates.sizes(), count)
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    return Slates(
        indptr,
        candidates.item[cells],
        score[cells],
        candidates.sources[cells],
        retrieved.personal,
        retrieved.removed,
    )


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
