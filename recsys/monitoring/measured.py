"""What `recommend` makes of requests under one set of terms, and what it makes it of: training and service alike.

A reference is measured on validation questions, live lists on requests read back from their records; both come through
here. So the terms are the same for all: COUNT items, all candidates, no filter, no quota, one diversity. What the
client asked for beyond that is the client's matter, and no drift.
"""

from dataclasses import dataclass, replace

import numpy as np

from recsys.recommend import features, rank, retrieve, slate
from recsys.types import Controls, QueryBatch, Ragged, World

COUNT = 20  # items of a list
HEAD = 10  # of them looked at
BATCH = 32


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Lists and candidates of `b` requests.

    Attributes:
        known: int64 [b], interactions known of the user, session included.
        indptr: int64 [b + 1], candidates of each request. matrix: float32 [m, F]. sources: uint16 [m].
        score: float64 [b], of the best candidate; NaN where it is not finite, or there is none.
        lists: int32 [b, HEAD], rows of the bundle, -1 for an empty place.
    """

    known: np.ndarray
    indptr: np.ndarray
    matrix: np.ndarray
    sources: np.ndarray
    score: np.ndarray
    lists: np.ndarray

    def __len__(self) -> int:
        return len(self.known)

    @classmethod
    def concatenate(cls, parts: list["Measured"]) -> "Measured":
        """Several, in their order; at least one."""
        sizes = np.concatenate([np.diff(one.indptr) for one in parts])
        return cls(
            np.concatenate([one.known for one in parts]),
            np.concatenate([[0], np.cumsum(sizes)]),
            *(
                np.concatenate([getattr(one, name) for one in parts])
                for name in ("matrix", "sources", "score", "lists")
            ),
        )


def measure(world: World, batch: QueryBatch, *, diversity: float) -> Measured:
    """Answer some requests under the common terms; about .5 ms each."""
    b = len(batch)
    batch = replace(
        batch,
        count=np.full(b, COUNT, np.int32),
        categories=Ragged.empty(b, np.int32),
        explore=np.zeros(b, np.float32),
        controls=Controls.without_quotas(b, diversity=diversity) if diversity else None,
        quality=None,
    )
    retrieved = retrieve(world, batch)
    ranked = rank(world, batch, retrieved)
    slates = slate(world, batch, retrieved, ranked)
    lists = np.full((b, HEAD), -1, np.int32)
    score = np.full(b, np.nan)
    candidates = retrieved.candidates
    for row in range(b):
        shown = slates.item[slates.indptr[row] : slates.indptr[row + 1]][:HEAD]
        lists[row, : len(shown)] = shown
        own = ranked.score[candidates.indptr[row] : candidates.indptr[row + 1]]
        if len(own) and np.isfinite(own).all():
            score[row] = own.max()
    return Measured(
        retrieved.users_of(world, batch).states.events.astype(np.int64),
        candidates.indptr,
        features(world, batch, retrieved),
        candidates.sources,
        score,
        lists,
    )
