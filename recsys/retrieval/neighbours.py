"""Item-to-item lists: what follows an item soon (transitions), and what the same users like (co-occurrence)."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

WINDOW = 10  # later interactions of the user that count as following
GAP_DECAY = 0.8  # weight of a follower falls by this per step


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
    def from_matrix(cls, matrix: sparse.csr_array, k: int) -> "Neighbours":
        """Keep the k strongest of each row of a non-negative [N, N] matrix but the diagonal; ties by item row."""
        n = matrix.shape[0]
        coo = matrix.tocoo()
        off = coo.row != coo.col
        row, col, weight = coo.row[off], coo.col[off], coo.data[off].astype(np.float32)
        order = np.lexsort((col, -weight, row))
        row, col, weight = row[order], col[order], weight[order]
        start = np.searchsorted(row, np.arange(n))
        slot = np.arange(len(row)) - start[row]
        keep = slot < k
        item = np.full((n, k), -1, np.int32)
        value = np.zeros((n, k), np.float32)
        item[row[keep], slot[keep]] = col[keep]
        value[row[keep], slot[keep]] = weight[keep]
        return cls(item, value)


def transitions(user: np.ndarray, item: np.ndarray, positive: np.ndarray, n_items: int, *, k: int) -> Neighbours:
    """Which positives follow an interaction within WINDOW steps of the same user.

    weight(i -> j) = sum over occurrences of GAP_DECAY^(gap - 1), divided by sqrt(occurrences of i * positives of j):
    cosine-like, so that what follows everything is not on top everywhere.

    Args:
        user, item: int32 [e], the log in order within each user. positive: bool [e].
        n_items: N. k: Neighbours kept.
    """
    order = np.argsort(user, kind="stable")
    user, item, positive = user[order], item[order], positive[order]
    total = sparse.csr_array((n_items, n_items), dtype=np.float32)
    for gap in range(1, WINDOW + 1):
        follows = (user[gap:] == user[:-gap]) & positive[gap:]
        pair = (item[:-gap][follows], item[gap:][follows])
        weight = np.full(len(pair[0]), GAP_DECAY ** (gap - 1), np.float32)
        total = total + sparse.coo_array((weight, pair), shape=(n_items, n_items)).tocsr()
    occurrences = np.bincount(item, minlength=n_items)
    positives = np.bincount(item[positive], minlength=n_items)
    return Neighbours.from_matrix(_scaled(total, occurrences, positives), k)


def co_occurrence(user: np.ndarray, item: np.ndarray, n_items: int, *, k: int) -> Neighbours:
    """Cosine similarity of items by the users who gave a positive to both (item-based collaborative filtering).

    Source: Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001.
    """
    n_users = int(user.max(initial=-1)) + 1
    ones = np.ones(len(user), np.float32)
    matrix = sparse.coo_array((ones, (user, item)), shape=(n_users, n_items)).tocsr()
    matrix.data[:] = 1.0
    counts = np.asarray(matrix.sum(axis=0)).ravel()
    return Neighbours.from_matrix(_scaled((matrix.T @ matrix).tocsr(), counts, counts), k)


def _scaled(matrix: sparse.csr_array, rows: np.ndarray, columns: np.ndarray) -> sparse.csr_array:
    left, right = (sparse.diags_array(1 / np.sqrt(np.maximum(c, 1)).astype(np.float32)) for c in (rows, columns))
    return (left @ matrix @ right).tocsr()
