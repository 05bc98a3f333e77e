"""Item-to-item lists: what follows an item soon (transitions), and what the same users like (co-occurrence)."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import sparse

FOLLOWING, FOLLOWING_DECAY = 10, 0.8  # later interactions that count as following, and what each step takes away
NEARBY, NEARBY_DECAY = 20, 0.9
BACKWARD = 0.5
PRIOR = 10.0  # occurrences


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """For each item the strongest related items.

    Attributes:
        item: int32 [N, K], strongest first, -1 padding at the end.
        weight: float32 [N, K], 0 where padded.
    """

    item: np.ndarray
    weight: np.ndarray

    @classmethod
    def from_matrix(cls, matrix: sparse.csr_array, k: int, *, first: int = 0) -> "Neighbours":
        """Keep the k strongest of each row of a non-negative matrix but the diagonal; ties by item row.

        Args:
            matrix: [n, N], of all items or of `n` that stand together. first: Row of the first of them.
        """
        return cls(*_strongest(matrix.indptr, matrix.indices, matrix.data.astype(np.float32, copy=False), k, first))


def transitions(user: np.ndarray, item: np.ndarray, positive: np.ndarray, n_items: int, *, k: int) -> Neighbours:
    """Which positives follow an interaction within FOLLOWING steps of the same user.

    weight(i -> j) = sum over occurrences of FOLLOWING_DECAY^(gap - 1), divided by sqrt((occurrences of i + PRIOR) *
    (positives of j + PRIOR)): cosine-like, so that what follows everything is not on top everywhere, and shrunk, so
    that what was met once is not on top either (Bell & Koren, "Scalable Collaborative Filtering with Jointly Derived
    Neighborhood Interpolation Weights", ICDM 2007).

    Args:
        user, item: int32 [e], the log in order within each user. positive: bool [e].
        n_items: N. k: Neighbours kept.
    """
    return _in_sequence(user, item, positive, n_items, window=FOLLOWING, decay=FOLLOWING_DECAY, backward=0.0, k=k)


def nearby(user: np.ndarray, item: np.ndarray, positive: np.ndarray, n_items: int, *, k: int) -> Neighbours:
    """Which positives the same user met within NEARBY steps of an interaction, before or after; as `transitions`.

    What came before counts BACKWARD. Where events are few, most pairs are met in one direction only by chance.
    """
    return _in_sequence(user, item, positive, n_items, window=NEARBY, decay=NEARBY_DECAY, backward=BACKWARD, k=k)


def _in_sequence(
    user: np.ndarray,
    item: np.ndarray,
    positive: np.ndarray,
    n_items: int,
    *,
    window: int,
    decay: float,
    backward: float,
    k: int,
) -> Neighbours:
    order = np.argsort(user, kind="stable")
    user, item, positive = user[order], item[order], positive[order]
    total = sparse.csr_array((n_items, n_items), dtype=np.float32)
    for gap in range(1, window + 1):
        same = user[gap:] == user[:-gap]
        earlier, later = slice(None, -gap), slice(gap, None)
        for of, to, share in ((earlier, later, 1.0), (later, earlier, backward)):
            if not share:
                continue
            met = same & positive[to]
            weight = np.full(np.count_nonzero(met), share * decay ** (gap - 1), np.float32)
            pair = (item[of][met], item[to][met])
            total = total + sparse.coo_array((weight, pair), shape=(n_items, n_items)).tocsr()
    occurrences = np.bincount(item, minlength=n_items)
    positives = np.bincount(item[positive], minlength=n_items)
    return Neighbours.from_matrix(_scaled(total, occurrences + PRIOR, positives + PRIOR), k)


def co_occurrence(user: np.ndarray, item: np.ndarray, n_items: int, *, k: int) -> Neighbours:
    """Similarity of items by the users who gave a positive to both (item-based collaborative filtering).

    weight(i -> j) = sum over those users of 1 / (the items of the user), divided by sqrt(users of i * users of j): the
    cosine, in which who likes everything says little. It is R~^T R~ of `recsys.retrieval.spectral`: the linear filter
    of Shen et al., "How Powerful is Graph Convolution for Recommendation?", CIKM 2021.
    """
    n_users = int(user.max(initial=-1)) + 1
    ones = np.ones(len(user), np.float32)
    matrix = sparse.coo_array((ones, (user, item)), shape=(n_users, n_items)).tocsr()
    matrix.data[:] = 1.0
    counts = np.asarray(matrix.sum(axis=0)).ravel()
    taken = np.maximum(np.asarray(matrix.sum(axis=1)).ravel(), 1)
    shared = matrix.T @ sparse.diags_array((1 / taken).astype(np.float32)) @ matrix
    return Neighbours.from_matrix(_scaled(shared.tocsr(), counts, counts), k)


@njit(cache=True)
def _strongest(
    indptr: np.ndarray, column: np.ndarray, value: np.ndarray, k: int, first: int
) -> tuple[np.ndarray, np.ndarray]:
    n = len(indptr) - 1
    item, weight = np.full((n, k), -1, np.int32), np.zeros((n, k), np.float32)
    for row in range(n):
        start, end = indptr[row], indptr[row + 1]
        own = value[start:end].copy()
        for cell in range(start, end):
            if column[cell] == first + row:
                own[cell - start] = 0  # an item is no neighbour of its own
        size = len(own)
        least = np.partition(own, size - k)[size - k] if size > k else np.float32(0)
        key = np.empty(size, np.int64)  # (-weight, item) as one integer: a positive float's bits order as it does
        kept = 0
        for cell in range(size):
            if own[cell] > 0 and own[cell] >= least:
                bits = np.int64(own[cell : cell + 1].view(np.int32)[0])
                key[kept] = (-bits << 32) + np.int64(column[start + cell])
                kept += 1
        key[:kept].sort()
        for place in range(min(k, kept)):
            item[row, place] = key[place] & 0xFFFFFFFF
            weight[row, place] = np.array([-(key[place] >> 32)], np.int64).astype(np.int32).view(np.float32)[0]
    return item, weight


def _scaled(matrix: sparse.csr_array, rows: np.ndarray, columns: np.ndarray) -> sparse.csr_array:
    left, right = (sparse.diags_array(1 / np.sqrt(np.maximum(c, 1)).astype(np.float32)) for c in (rows, columns))
    return (left @ matrix @ right).tocsr()
