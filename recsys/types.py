"""The values that flow through `recommend`: the world, the micro-batch, the candidates, the slates.

Everything here is columns. `b` requests, `m` candidate cells over all of them, `N` items, `d` factor dimensions.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from recsys import digests
from recsys.features import item

if TYPE_CHECKING:
    from recsys.bundle import Bundle
    from recsys.features.user import UserStates


class Source(IntEnum):
    """Where a candidate comes from; the bit number in `CandidateSet.sources`."""

    ALS = 0  # nearest to the folded-in user vector
    TRANSITIONS = 1  # what follows the user's last interactions
    SIMILAR = 2  # what users of the same last items like
    POPULAR = 3
    NEW = 4  # drawn from the items that came after training
    HISTORY = 5  # what users of all the items like that this user liked
    SPECTRAL = 6  # nearest in the smooth part of the graph of users and items
    NEARBY = 7  # what is met shortly before or after the user's last interactions
    CONTENT = 8  # what is described like the user's last interactions


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """Lists of different lengths, one a row. indptr int64 [b + 1], values [nnz]."""

    indptr: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, lists: Sequence[np.ndarray], dtype: type) -> "Ragged":
        if not any(map(len, lists)):  # the rule: 1 us instead of 6
            return cls.empty(len(lists), dtype)
        indptr = np.zeros(len(lists) + 1, np.int64)
        np.cumsum([len(one) for one in lists], out=indptr[1:])
        return cls(indptr, np.concatenate(lists).astype(dtype))

    @classmethod
    def empty(cls, b: int, dtype: type) -> "Ragged":
        return cls(np.zeros(b + 1, np.int64), np.zeros(0, dtype))

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.indptr[row] : self.indptr[row + 1]]

    def take(self, rows: np.ndarray) -> "Ragged":
        """Some of the lists, in this order."""
        lengths = self.lengths()[rows]
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        place = np.arange(indptr[-1]) - np.repeat(indptr[:-1], lengths)
        return Ragged(indptr, self.values[np.repeat(self.indptr[rows], lengths) + place])

    def lengths(self) -> np.ndarray:
        """Length of each list, int64 [b]."""
        return self.indptr[1:] - self.indptr[:-1]

    def rows(self) -> np.ndarray:
        """The row of each value, int64 [nnz]."""
        return np.repeat(np.arange(len(self)), self.lengths())


@dataclass(frozen=True, slots=True, eq=False)
class ItemStats:
    """A versioned snapshot of what changes about items between bundles.

    Attributes:
        version: Names the snapshot; in every decision record.
        available: bool [N].
        popularity: float32 [N], positives of the whole window.
        trend, trend_day, trend_year: float32 [N], positives decayed with a half-life of 30 days, a day and a year, as
            of the snapshot.
        positive_rate: float32 [N], positives / interactions, shrunk to the mean of all items.
        order: int32 [<= N], available items by falling trend, ties by row.
    """

    version: str
    available: np.ndarray
    popularity: np.ndarray
    trend: np.ndarray
    trend_day: np.ndarray
    trend_year: np.ndarray
    positive_rate: np.ndarray
    order: np.ndarray


class Lifted(NamedTuple):
    """An item, row of the bundle, that some reasons do not rule out: bits of `filtering.Reason`."""

    item: int
    reasons: int


@dataclass(frozen=True, eq=False)
class World:
    """All that an answer depends on besides the query: immutable, pinned for the life of a request."""

    bundle: "Bundle"
    item_stats: ItemStats
    candidates: int = 200  # ranked per request, at least, at full quality
    lifted: Lifted | None = None  # only where somebody asks what would be without a filter

    def with_candidates(self, candidates: int) -> "World":
        """The same world, with all that was computed for it, that ranks another number of candidates."""
        other = copy.copy(self)
        object.__setattr__(other, "candidates", candidates)
        return other

    def lifting(self, item: int, reasons: int) -> "World":
        """The same world, in which these reasons do not rule out one item; arguments as of `Lifted`."""
        other = copy.copy(self)
        for name in ("available", "available_bits", "available_count", "popular"):
            other.__dict__.pop(name, None)
        object.__setattr__(other, "lifted", Lifted(item, reasons))
        return other

    @cached_property
    def item_columns(self) -> np.ndarray:
        """The item features of all items, float32 [f, N]: computed once for each snapshot of the stats."""
        return item.columns(self.item_stats)

    @cached_property
    def popular(self) -> np.ndarray:
        """Available items by falling popularity in the window of the recipe, ties by row: int32 [<= N]."""
        stats, window = self.item_stats, self.bundle.recipe.popular
        if window == "month" and self.lifted is None:
            return stats.order
        by = {"day": stats.trend_day, "month": stats.trend, "year": stats.trend_year, "ever": stats.popularity}
        order = item.by_falling(by[window])
        order = order[self.available[order]]
        order.flags.writeable = False
        return order

    @cached_property
    def available(self) -> np.ndarray:
        """Which items may be shown at all, bool [N]: `item_stats.available`, unless that is lifted."""
        if self.lifted is None or not self.lifted.reasons & 1:  # bit `filtering.Reason.UNAVAILABLE`
            return self.item_stats.available
        available = self.item_stats.available.copy()
        available[self.lifted.item] = True
        return available

    @cached_property
    def available_bits(self) -> np.ndarray:
        """`available` as bits, uint8 [ceil(N / 8)], the first item lowest."""
        return np.packbits(self.available, bitorder="little")

    @cached_property
    def available_count(self) -> int:
        """Items that are available."""
        return int(self.available.sum())

    @cached_property
    def item_stats_digest(self) -> int:
        """32 bits of all of `item_stats`."""
        return digests.of_item_stats(self.item_stats)


@dataclass(frozen=True, slots=True, eq=False)
class Controls:
    """How lists are to differ from the order of the scores; see `recsys.selection`. 0 and no quota: not at all.

    Attributes:
        diversity: float32 [b], 0 to 1: what likeness counts against relevance.
        popularity_damping: float32 [b], 0 to 1: the share of its relevance that the most popular candidate loses.
        quota_category: int32 category numbers per row, distinct.
        quota_most: int32 per row: how many items of each of them the list may hold.
    """

    diversity: np.ndarray
    popularity_damping: np.ndarray
    quota_category: Ragged
    quota_most: Ragged

    @classmethod
    def without_quotas(cls, b: int, *, diversity: float = 0.0, popularity_damping: float = 0.0) -> "Controls":
        """The same strengths for `b` requests."""
        no_quota = Ragged.empty(b, np.int32)
        return cls(np.full(b, diversity, np.float32), np.full(b, popularity_damping, np.float32), no_quota, no_quota)


@dataclass(frozen=True, slots=True, eq=False)
class QueryBatch:
    """The requests of one micro-batch.

    Attributes:
        states: UserStates [b].
        now_s: int64 [b], UTC epoch seconds.
        seed: uint64 [b], the only source of chance.
        count: int32 [b], items wanted.
        session: uint64 item keys per row, oldest first: positives of this visit that are not in the state.
        excluded: uint64 item keys per row that must not be returned.
        categories: int32 category numbers per row, any of which an item must have; none = no filter.
        explore: float32 [b], probability with which the list ends with a new item, where there is any.
        controls: Controls [b], or None where every list is in the order of its scores.
        quality: float32 [b], above 0 to 1, the share of `World.candidates` that is ranked for each request, where there
            is no time for all; None where there is.
    """

    states: "UserStates"
    now_s: np.ndarray
    seed: np.ndarray
    count: np.ndarray
    session: Ragged
    excluded: Ragged
    categories: Ragged
    explore: np.ndarray
    controls: Controls | None = None
    quality: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.now_s)

    def without_filters(self) -> "QueryBatch":
        """The same requests for ranking, which reads neither fingerprints, exclusions, categories nor controls."""
        b = len(self)
        states = replace(self.states, seen=np.zeros((b, 0), np.uint32), seen_count=np.zeros(b, np.int32))
        excluded, categories = Ragged.empty(b, np.uint64), Ragged.empty(b, np.int32)
        return replace(self, states=states, excluded=excluded, categories=categories, controls=None)

    def with_quotas_alone(self) -> "QueryBatch":
        """The same requests, of whose controls only the quotas count: for scores that are not the ranker's."""
        if self.controls is None:
            return self
        nothing = np.zeros(len(self), np.float32)
        return replace(self, controls=replace(self.controls, diversity=nothing, popularity_damping=nothing))


@dataclass(frozen=True, slots=True, eq=False)
class CandidateSet:
    """Items under consideration: cell `c` is one (request, item); cells of a request stand together.

    Attributes:
        indptr: int64 [b + 1], where the cells of each request start.
        item: int32 [m], rows of the bundle, distinct within a request.
        sources: uint16 [m], bit `Source` set where that source brought the item.
        retrieval_score: float32 [m], reciprocal-rank fusion of the sources; falling within a request.
        source_score: float32 [len(Source), m], each source's own score, 0 where it did not bring the item.
    """

    indptr: np.ndarray
    item: np.ndarray
    sources: np.ndarray
    retrieval_score: np.ndarray
    source_score: np.ndarray

    def sizes(self) -> np.ndarray:
        """Cells of each request, int64 [b]."""
        return self.indptr[1:] - self.indptr[:-1]

    def row(self) -> np.ndarray:
        """The request of each cell, int64 [m]."""
        return np.repeat(np.arange(len(self.indptr) - 1), self.sizes())

    def by_chance(self) -> np.ndarray:
        """Whether no source found a cell, only the draw of a new item, bool [m]."""
        return self.sources == np.uint16(1 << Source.NEW)


@dataclass(frozen=True, slots=True, eq=False)
class Slates:
    """The chosen lists, best first.

    Attributes:
        indptr: int64 [b + 1].
        item: int32 [t], rows of the bundle.
        score: float64 [t], the ranker's score.
        sources: uint16 [t], bits of `Source`.
        personal: bool [b], false where nothing of the user was known (cold start).
        removed: int64 [b, 4], items of the bundle ruled out, by `filtering.Reason`.
        propensity: float32 [b], with which the item on the last place was drawn from the new ones; 0 where it was not.
        ranked: int64 [b], candidates that the list was chosen from.
        digests: uint32 [b, k], of each stage (`recsys.digests`): its BEFORE_FEATURES, each feature, the scores.
    """

    indptr: np.ndarray
    item: np.ndarray
    score: np.ndarray
    sources: np.ndarray
    personal: np.ndarray
    removed: np.ndarray
    propensity: np.ndarray
    ranked: np.ndarray
    digests: np.ndarray
