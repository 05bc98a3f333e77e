"""Ranking metrics, one value per query, and what the lists do to the catalogue.

The whole catalogue is ranked, never a sample of it: sampled metrics can order two recommenders the wrong way
round (Krichene & Rendle, "On Sampled Metrics for Item Recommendation", KDD 2020).

`hits` bool [q, k] says whether each position of the list is relevant, `n_relevant` int [q] how
many items are relevant at all, in the list or not. A query without a relevant item has no value.

Input outside these definitions is a ValueError.
"""

import numpy as np


def hit_rate(hits: np.ndarray) -> np.ndarray:
    """1 where any relevant item is in the list, else 0: with one target also recall. float64 [q]."""
    return np.asarray(hits.any(axis=1), np.float64)


def reciprocal_rank(hits: np.ndarray) -> np.ndarray:
    """1 / place of the first relevant item, 0 when there is none in the list; the mean is MRR. float64 [q], in [0, 1].

    Voorhees, "The TREC-8 Question Answering Track Report", 1999.
    """
    return np.where(hits.any(axis=1), 1 / (hits.argmax(axis=1) + 1.0), 0.0)


def average_precision(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """The mean over the first min(k, n_relevant) relevant items of the precision at their place. float64 [q].

    Manning, Raghavan, Schütze, "Introduction to Information Retrieval", 2008, section 8.4, cut off at k.
    """
    _check_hits(hits, n_relevant)
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return (precision * hits).sum(axis=1) / np.minimum(n_relevant, hits.shape[1])


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


def novelty(lists: np.ndarray, popularity: np.ndarray) -> float:
    """Mean self-information of the shown items, bits: log2(all positives / the item's), items without one as with one.

    `lists` as in `coverage`; popularity float32 [n_items], positives of each. Zhou et al., "Solving the apparent
    diversity-accuracy dilemma of recommender systems", PNAS 107(10), 2010.
    """
    shown = lists[lists >= 0]
    if not len(shown):
        raise ValueError(f"no item is shown in {len(lists)} lists; novelty needs at least one")
    share = np.maximum(popularity, 1) / max(float(popularity.sum()), 1.0)
    return float(np.mean(-np.log2(np.minimum(share[shown], 1.0)) + 0.0))


def intra_list_diversity(lists: np.ndarray, vector: np.ndarray) -> float:
    """Mean over lists of 1 - the mean cosine of two different items of it; lists of fewer than two do not count.

    `lists` as in `coverage`; vector float32 [n_items, d], an item of 0 is unlike all others. Ziegler et al.,
    "Improving Recommendation Lists Through Topic Diversification", WWW 2005. NaN-free: 0 where no list has two items.
    """
    total, counted = 0.0, 0
    length = np.sqrt(np.einsum("nd,nd->n", vector, vector))
    for row in lists:
        shown = row[row >= 0]
        if len(shown) < 2:
            continue
        own = vector[shown] / np.where(length[shown] > 0, length[shown], 1)[:, None]
        cosine = own @ own.T
        pairs = len(shown) * (len(shown) - 1)
        total += 1 - float(cosine.sum() - np.trace(cosine)) / pairs
        counted += 1
    return total / max(counted, 1)


def miscalibration(lists: np.ndarray, liked: np.ndarray, share: np.ndarray) -> float:
    """How far the categories of lists are from those of what their users liked: mean KL divergence, nats, 0 for alike.

    KL(p || .99 q + .01 p), p the mean shares of what was liked, q of what is shown: Steck, "Calibrated
    Recommendations", RecSys 2018. Lists without a category on either side do not count; 0 where none counts.

    `lists` and liked int32 [q, h] as in `coverage`; share float32 [n_items, C] of the categories of an item, 1 in all.
    """
    p, q = _shares(liked, share), _shares(lists, share)
    counted = (p.sum(axis=1) > 0) & (q.sum(axis=1) > 0)
    if not counted.any():
        return 0.0
    p, q = p[counted], q[counted]
    mixed = 0.99 * q + 0.01 * p
    ratio = np.divide(p, mixed, out=np.ones_like(p), where=p > 0)
    return float((p * np.log(ratio)).sum(axis=1).mean())


def _shares(rows: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The mean of the shares of each row's items, those without a category left out. float64 [q, C]."""
    result = np.zeros((len(rows), share.shape[1]))
    for place in range(rows.shape[1]):
        some = rows[:, place] >= 0
        result[some] += share[rows[some, place]]
    total = result.sum(axis=1, keepdims=True)
    return np.divide(result, total, out=result, where=total > 0)


def _exposure(lists: np.ndarray, n_items: int) -> np.ndarray:
    if n_items < 1:
        raise ValueError(f"n_items is {n_items}; a catalogue holds at least one item")
    if lists.size and not -1 <= lists.min() <= lists.max() < n_items:
        raise ValueError(f"item numbers {lists.min()}..{lists.max()} leave -1..{n_items - 1}; is it another bundle's?")
    return np.bincount(lists[lists >= 0], minlength=n_items)


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
