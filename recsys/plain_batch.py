"""Requests that want nothing but a list: no session, no filter, no wish about the list, nothing drawn."""

import numpy as np

from recsys.features.user import UserStates
from recsys.types import QueryBatch, Ragged


def plain_batch(
    states: UserStates, *, now_s: np.ndarray, seed: np.ndarray, count: int, excluded: Ragged | None = None
) -> QueryBatch:
    """A micro-batch of them, [b]; arguments as in `QueryBatch`, `count` of every list."""
    b = len(now_s)
    return QueryBatch(
        states=states,
        now_s=now_s.astype(np.int64, copy=False),
        seed=seed.astype(np.uint64, copy=False),
        count=np.full(b, count, np.int32),
        session=Ragged.empty(b, np.uint64),
        excluded=Ragged.empty(b, np.uint64) if excluded is None else excluded,
        categories=Ragged.empty(b, np.int32),
        explore=np.zeros(b, np.float32),
    )
