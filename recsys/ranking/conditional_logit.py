"""Training of the linear part of the ranker."""

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from recsys.ranking.linear import Linear

QUESTIONS = 8_000  # that it learns from: it has two weights a feature; decision 0038
PENALTY = 100.0  # of the squares of the standardised weights, beside the sum over questions; 1 to 1,000 rank alike
TAIL = 0.001  # share of the rows beyond each bound
_STEPS = 150


def fit_linear(
    features: np.ndarray,
    label: np.ndarray,
    indptr: np.ndarray,
    weight: np.ndarray,
    *,
    ignored: np.ndarray,
    seed: int,
) -> Linear:
    """The most likely weights, by L-BFGS; the same bits whatever the number of threads.

    Args:
        features: float32 [m, F]. label: float32 [m], 1 for a right answer, else 0. weight: float32 [m], above 0, what
            each answer counts for. indptr: int64 [q + 1], the rows of each question.
        ignored: bool [F], features that get no weight.
    """
    rows, start = _some(indptr, seed)
    x = features[rows].astype(np.float64)
    low, high = np.quantile(x, TAIL, axis=0).astype(np.float32), np.quantile(x, 1 - TAIL, axis=0).astype(np.float32)
    np.clip(x, low, high, out=x)
    x = np.concatenate((x, np.copysign(np.sqrt(np.abs(x)), x)), axis=1)
    size = np.diff(np.append(start, len(x)))
    x -= np.repeat(np.add.reduceat(x, start) / size[:, None], size, axis=0)  # what is the same for all says nothing
    deviation = x.std(axis=0)
    usable = (deviation > 1e-6) & ~np.tile(ignored, 2)
    x = x[:, usable] / deviation[usable]
    weights = np.zeros(len(usable))
    weights[usable] = _most_likely(x, label[rows] * weight[rows] / weight[rows].mean(), start) / deviation[usable]
    plain, root = np.split(weights, 2)
    return Linear(low, high, plain, root)


def _some(indptr: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of at most QUESTIONS questions, and the first row of each among these."""
    size = np.diff(indptr)
    chosen = np.flatnonzero(size)
    if len(chosen) > QUESTIONS:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, QUESTIONS, replace=False))
    rows = np.concatenate([np.arange(indptr[one], indptr[one + 1]) for one in chosen])
    return rows, np.concatenate(([0], np.cumsum(size[chosen])[:-1]))


def _most_likely(x: np.ndarray, wanted: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Weights of the columns of x [m, f]. wanted: [m], what each row counts for as an answer; 0 where it is none."""
    question = np.repeat(np.arange(len(start)), np.diff(np.append(start, len(x))))
    answers = np.add.reduceat(wanted, start)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        odds = x @ weights
        odds -= np.maximum.reduceat(odds, start)[question]
        share = np.exp(odds)
        total = np.add.reduceat(share, start)
        likelihood = wanted @ odds - answers @ np.log(total)
        share *= (answers / total)[question]
        value = (PENALTY / 2 * weights @ weights - likelihood) / len(start)
        return value, (PENALTY * weights - (wanted - share) @ x) / len(start)

    with threadpool_limits(1, "blas"):  # how a sum is shared out among threads would change its last bits
        return minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}).x
