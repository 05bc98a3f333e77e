"""Ranking metrics, one value per query, and what the lists do to the catalogue.

The whole catalogue is ranked, never a sample of it: sampled metrics can order two recommenders the wrong way
round (Krichene & Rendle, "On Sampled Metrics for Item Recommendation", KDD 2020).

Next item: `rank` int32 [q] is the 0-based position of the one target in the list, -1 when it is not there.

Many targets: `hits` bool [q, k] says whether each position of the list is relevant, `n_relevant` int [q] how
many items are relevant at all, in the list or not. A query without a relevant item has no value.

Input outside these definitions is a ValueError.
"""

import numpy as np


def ndcg_at_k(rank: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k with one target: 1 / log2(rank + 2) inside the first k, else 0. float64 [q], in [0, 1].

    Järvelin & Kekäläinen, "Cumulated Gain-Based Evaluation of IR Techniques", ACM TOIS 20(4), 2002, with
    binary gain: the ideal DCG of one target is 1.
    """
    return np.where(hit_at_k(rank, k) > 0, 1 / np.log2(np.maximum(rank, 0) + 2.0), 0.0)


def hit_at_k(rank: np.ndarray, k: int) -> np.ndarray:
    """1 where the target is among the first k, else 0: with one target also recall@k. float64 [q]."""
    _check_rank(rank)
    if k < 1:
        raise ValueError(f"k is {k}; a cut-off is at least 1")
    return ((rank >= 0) & (rank < k)).astype(np.float64)


def reciprocal_rank(rank: np.ndarray) -> np.ndarray:
    """1 / (rank + 1), 0 when the target is not in the list; the mean is MRR. float64 [q], in [0, 1].

    Voorhees, "The TREC-8 Question Answering Track Report", 1999.
    """
    _check_rank(rank)
    return np.where(rank >= 0, 1 / (np.maximum(rank, 0) + 1.0), 0.0)


def ndcg_of_hits(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """NDCG@k with many targets, k being the width of `hits`. float64 [q], in [0, 1].

    DCG = sum of 1 / log2(position + 2) over hits; ideal DCG = the same sum over the first min(k, n_relevant)
    positions. Järvelin & Kekäläinen 2002 with binary gain.
    """
    _check_hits(hits, n_relevant)
    discount = 1 / np.log2(np.arange(hits.shape[1]) + 2.0)
    ideal = np.cumsum(discount)[np.minimum(n_relevant, hits.shape[1]) - 1]
    # Summed in the order of `ideal`, so that a perfect list scores 1 and not 1 + 2e-16.
    return np.cumsum(hits * discount, axis=1)[:, -1] / ideal


def recall_of_hits(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """Recall@k with many targets: hits / all relevant items, even if more than k. float64 [q], in [0, 1]."""
    _check_hits(hits, n_relevant)
    return hits.sum(axis=1) / n_relevant


def coverage(lists: np.ndarray, n_items: int) -> float:
    """Share of the catalogue that appears in any list, in [0, 1].

    `lists` int32 [q, k] holds item numbers, -1 for an empty place. Ge, Delgado-Battenfeld & Jannach, "Beyond
    Accuracy: Evaluating Recommender Systems by Coverage and Serendipity", RecSys 2010: catalogue coverage.
    """
    return float(np.count_nonzero(_exposure(lists, n_items)) / n_items)


def exposure_gini(lists: np.ndarray, n_items: int) -> float:
    """Gini coefficient of how often each catalogue item is shown: 0 all alike, 1 - 1/n_items one item only.

    `lists` as in `coverage`; items never shown count with 0. Fleder & Hosanagar, "Blockbuster Culture's Next
    Rise or Fall", Management Science 55(5), 2009.
    """
    exposure = np.sort(_exposure(lists, n_items)).astype(np.float64)
    if not exposure.any():
        raise ValueError(f"no item is shown in {len(lists)} lists; exposure needs at least one")
    weight = 2 * np.arange(1, n_items + 1) - n_items - 1
    return float(weight @ exposure / (n_items * exposure.sum()))


def _exposure(lists: np.ndarray, n_items: int) -> np.ndarray:
    if n_items < 1:
        raise ValueError(f"n_items is {n_items}; a catalogue holds at least one item")
    if lists.size and not -1 <= lists.min() <= lists.max() < n_items:
        raise ValueError(f"item numbers {lists.min()}..{lists.max()} leave -1..{n_items - 1}; is it another bundle's?")
    return np.bincount(lists[lists >= 0], minlength=n_items)


def _check_rank(rank: np.ndarray) -> None:
    if rank.size and rank.min() < -1:
        raise ValueError(f"rank {rank.min()} is below -1; -1 marks a target that is not in the list")


def _check_hits(hits: np.ndarray, n_relevant: np.ndarray) -> None:
    if hits.shape[1] < 1:
        raise ValueError("hits has no columns; a cut-off k is at least 1")
    impossible = np.flatnonzero((n_relevant < 1) | (hits.sum(axis=1) > n_relevant))
    if len(impossible):
        query = impossible[0]
        raise ValueError(
            f"query {query} has {hits[query].sum()} hits of {n_relevant[query]} relevant items; "
            "leave out queries without a relevant item, and count each hit once"
        )
