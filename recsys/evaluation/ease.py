"""EASE, a linear item-to-item model in closed form, as a baseline: strong, and dense.

Source: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019, eq. 8.
"""

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from recsys.evaluation.answers import Score
from recsys.features.user import UserStates, fingerprint
from recsys.recommend import Retrieved
from recsys.training.log import Log
from recsys.types import QueryBatch, World
from recsys.verbs import IS_POSITIVE
from recsys.vocabulary import Vocabulary

MOST_ITEMS = 13_000  # of which the inverse takes 0.7 GB and about a minute
_REGULARIZATION = 500.0  # the paper's choice for MovieLens-20M; not tuned


def ease_score(vocabulary: Vocabulary, past: Log) -> Score | None:
    """A score of candidates by EASE; None where there are more than MOST_ITEMS."""
    n = len(vocabulary)
    if n > MOST_ITEMS:
        return None
    item = vocabulary.rows(past.key[past.positive])
    user = past.user[past.positive]
    taken = sparse.coo_array((np.ones(len(user), np.float32), (user, item)), shape=(int(user.max()) + 1, n)).tocsr()
    taken.data[:] = 1
    gram = (taken.T @ taken).toarray().astype(np.float32)
    gram[np.diag_indices(n)] += np.float32(_REGULARIZATION)
    weight = _inverse(gram)
    weight /= -np.diag(weight)
    weight[np.diag_indices(n)] = 0

    def score(world: World, batch: QueryBatch, retrieved: Retrieved) -> np.ndarray:
        users = retrieved.users_of(world, batch)
        result = np.empty(len(retrieved.candidates.item))
        for row in range(len(batch)):
            cells = slice(retrieved.candidates.indptr[row], retrieved.candidates.indptr[row + 1])
            liked = users.history.item[row][users.history.positive[row]]
            rows = np.concatenate([np.unique(liked), _older(users.states, row, world.bundle.vocabulary)])
            result[cells] = weight[rows].sum(axis=0)[retrieved.candidates.item[cells]]
        return result

    return score


def _older(states: UserStates, row: int, vocabulary: Vocabulary) -> np.ndarray:
    """Items of which only fingerprints are left; what was done to them is not known, so they count as positives."""
    prints = np.unique(states.seen[row, : states.seen_count[row]])
    of_items = fingerprint(vocabulary.key)
    place = np.minimum(np.searchsorted(of_items, prints), len(of_items) - 1)
    ring = fingerprint(states.item_key[row][~IS_POSITIVE[states.verb[row]]])
    known = (of_items[place] == prints) & ~np.isin(prints, fingerprint(states.item_key[row])) & ~np.isin(prints, ring)
    return place[known]


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """The inverse of a symmetric positive definite matrix, in its place."""
    factor, _ = lapack.spotrf(matrix, lower=1, overwrite_a=1)
    inverse, _ = lapack.spotri(factor, lower=1, overwrite_c=1)
    lower = np.tril(inverse)
    return lower + np.tril(lower, -1).T
