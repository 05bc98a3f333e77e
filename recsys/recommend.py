"""The recommender: `recommend(world, batch) -> slates`.

No I/O, no clock, no global chance. Row `i` of the answer depends on row `i` of the batch alone, bit for bit.
`retrieve` and `rank` are the same stages one by one, for topologies that run them in different processes.
"""

from dataclasses import dataclass, replace

import numpy as np

from recsys import digests, filtering
from recsys.exploration import draw
from recsys.features.frame import Frame
from recsys.features.matrix import feature_matrix
from recsys.retrieval.candidates import union
from recsys.selection import controlled, end_with, select
from recsys.types import CandidateSet, QueryBatch, Slates, World
from recsys.users import Users


@dataclass(frozen=True, slots=True, eq=False)
class Retrieved:
    """What retrieval hands to ranking.

    Attributes:
        candidates: CandidateSet [m], all eligible.
        personal: bool [b], true where any interaction of the user is in the bundle.
        removed: int64 [b, len(Reason)], items of the bundle ruled out.
        explored: int32 [b], the new item that ends the list, -1 for none. propensity: float32 [b], how probable it was.
        digests: uint32 [b, len(BEFORE_FEATURES)], of what was made so far.
        users: Users [b], or None where it came from another process: `users_of` has them in any case.
    """

    candidates: CandidateSet
    personal: np.ndarray
    removed: np.ndarray
    explored: np.ndarray
    propensity: np.ndarray
    digests: np.ndarray
    users: Users | None = None

    def to_send(self) -> "Retrieved":
        """The same without the users."""
        return replace(self, users=None)

    def users_of(self, world: World, batch: QueryBatch) -> Users:
        """The users that retrieval saw; cheaper to make again than to send."""
        return self.users or Users.of(world, batch)


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """What ranking hands to selection.

    Attributes:
        score: float64 [m], of every candidate.
        digests: uint32 [b, F + 1], of each feature that the scores were made from, and of the scores.
    """

    score: np.ndarray
    digests: np.ndarray

    @classmethod
    def by(cls, score: np.ndarray, retrieved: Retrieved) -> "Ranked":
        """Scores, [m], that are made from no features."""
        none = np.zeros((len(score), 0), np.float32)
        return cls.of(none, score.astype(np.float64), retrieved)

    @classmethod
    def of(cls, matrix: np.ndarray, score: np.ndarray, retrieved: Retrieved) -> "Ranked":
        """Scores and the features that they were made from, float32 [m, F]."""
        return cls(score, digests.of_ranking(matrix, score, retrieved.candidates.indptr))


def recommend(world: World, batch: QueryBatch) -> Slates:
    """Lists for a micro-batch of requests.

    Args:
        world: The bundle and item stats that the whole batch is pinned to; its ranker is set.
        batch: QueryBatch [b].
    Returns:
        Slates [b]. A request's list is shorter than its `count` only where fewer items are eligible, or where its
        quotas keep out all other candidates.
    """
    retrieved = retrieve(world, batch)
    return slate(world, batch, retrieved, rank(world, batch, retrieved))


def retrieve(world: World, batch: QueryBatch) -> Retrieved:
    """Candidates of each request: what may be shown, then all sources of that."""
    users = Users.of(world, batch)
    eligible, removed = filtering.eligible(world, batch, users)
    explored, propensity = draw(world, batch, eligible)
    candidates = union(world, batch, users, eligible, explored)
    made = digests.of_retrieval(users.states, world.item_stats_digest, eligible, users.vector, candidates)
    return Retrieved(candidates, users.history.known, removed, explored, propensity, made, users)


def features(world: World, batch: QueryBatch, retrieved: Retrieved) -> np.ndarray:
    """The ranker's input for all candidates, float32 [m, F]."""
    users = retrieved.users_of(world, batch)
    states, history, candidates = users.states, users.history, retrieved.candidates
    return feature_matrix(Frame(world, states, batch.now_s, history, users.vector, users.spectral, candidates))


def rank(world: World, batch: QueryBatch, retrieved: Retrieved) -> Ranked:
    """The ranker's score of every candidate: one model call for the whole batch."""
    if world.bundle.ranker is None:
        return Ranked.by(retrieved.candidates.retrieval_score, retrieved)
    matrix, candidates = features(world, batch, retrieved), retrieved.candidates
    score = world.bundle.ranker.score(matrix, candidates.indptr, candidates.by_chance())
    return Ranked.of(matrix, score, retrieved)


def slate(world: World, batch: QueryBatch, retrieved: Retrieved, ranked: Ranked) -> Slates:
    """The lists, from candidates and their scores."""
    candidates, score = retrieved.candidates, ranked.score
    # What is a candidate only by chance takes no place by rank: how probable that was is not what was drawn with.
    worth = np.where(candidates.by_chance(), -np.inf, score)
    cells, indptr = select(candidates.indptr, worth, batch.count)
    explored, propensity = retrieved.explored, retrieved.propensity
    if batch.controls is not None:
        cells, indptr, explored = controlled(world, batch.controls, candidates, worth, cells, indptr, explored)
    if propensity.any():
        done = end_with(cells, indptr, candidates.indptr, candidates.item, explored)
        propensity = np.where(done, propensity, np.float32(0))
    return Slates(
        indptr,
        candidates.item[cells],
        score[cells],
        candidates.sources[cells],
        retrieved.personal,
        retrieved.removed,
        propensity,
        candidates.sizes(),
        np.concatenate((retrieved.digests, ranked.digests), axis=1),
    )
