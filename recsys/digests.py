"""Digests: 32 bits of what each stage made of one request, so that a replay can name the first stage that differs.

A multilinear hash: the sum of word * key of its place over 32-bit words, modulo 2^64, of which the high half is kept.
Two inputs of one length have the same digest once in 2^32 times; a compiler can add up many words at a time.
Source: Lemire, Kaser, "Strongly universal string hashing is fast", The Computer Journal 57(11), 2014. The keys are
fixed here, so a digest finds what went wrong, not who forged it. Floats count by their bits.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from recsys.features.user import UserStates
    from recsys.types import CandidateSet, ItemStats

LAYOUT = 1  # raised with every change of what a digest is made of


class Stage(StrEnum):
    """The stages of `recommend`, in their order."""

    STATE = "state"  # the user state after the session's items
    ITEM_STATS = "item_stats"
    FILTER = "filter"  # which items may be shown
    RETRIEVAL = "retrieval"  # the user vector and the candidates with all their scores
    FEATURES = "features"  # one digest a feature
    RANKING = "ranking"  # the score of every candidate
    SELECTION = "selection"  # the list; a decision record holds it in full, so it has no digest


BEFORE_FEATURES = (Stage.STATE, Stage.ITEM_STATS, Stage.FILTER, Stage.RETRIEVAL)


def _keys(count: int) -> np.ndarray:
    """Odd 64-bit numbers without a pattern, uint64 [count]: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    state = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (state ^ (state >> np.uint64(31))) | np.uint64(1)


_BLOCK = 1024  # words that have keys of their own; longer inputs are a chain of blocks
_KEY = _keys(_BLOCK)
_STEP = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


def of_item_stats(stats: "ItemStats") -> int:
    """One digest of a whole snapshot. Cost: 25 bytes an item, so it is made once for each snapshot."""
    available = stats.available.view(np.uint8)
    trends = stats.trend, stats.trend_day, stats.trend_year
    return int(_item_stats(available, stats.popularity, *trends, stats.positive_rate, stats.order))


def of_retrieval(
    states: "UserStates", item_stats: int, eligible: np.ndarray, vector: np.ndarray, candidates: "CandidateSet"
) -> np.ndarray:
    """Digests of all that comes before features, uint32 [b, len(BEFORE_FEATURES)].

    Args:
        states: UserStates [b], the session's items applied. item_stats: The snapshot's digest.
        eligible: uint8 [b, ceil(N / 8)], as `filtering.eligible` makes it. vector: float32 [b, d].
    """
    return _retrieval(
        states.item_key,
        states.ts_s,
        states.verb,
        states.length,
        states.seen,
        states.seen_count,
        states.activity,
        states.activity_s,
        states.events,
        states.positives,
        item_stats,
        eligible,
        vector,
        candidates.indptr,
        candidates.item,
        candidates.sources,
        candidates.retrieval_score,
        candidates.source_score,
    )


def of_ranking(features: np.ndarray, score: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Digests of each feature and of the scores, uint32 [b, F + 1].

    Args:
        features: float32 [m, F], column-major. score: float64 [m]. indptr: int64 [b + 1], cells of each request.
    """
    return _ranking(np.ascontiguousarray(features.T), np.ascontiguousarray(score), indptr)


def packed(row: np.ndarray) -> bytes:
    """All digests of one request, uint32 [k], as bytes."""
    return bytes([LAYOUT]) + row.astype("<u4").tobytes()


def unpacked(value: bytes) -> np.ndarray | None:
    """What was packed, uint32 [k]; None of another layout, or of none."""
    if len(value) % 4 != 1 or value[0] != LAYOUT:
        return None
    return np.frombuffer(value, "<u4", offset=1)


def differing(then: np.ndarray, now: np.ndarray, features: Sequence[str]) -> tuple[Stage | None, list[str]]:
    """The first stage whose digests differ, and at FEATURES which of them; (None, []) where all are equal.

    Args:
        then, now: uint32 [len(BEFORE_FEATURES) + F + 1]. features: Their names, in order.
    """
    changed = then != now
    before, of_features = changed[: len(BEFORE_FEATURES)], changed[len(BEFORE_FEATURES) : -1]
    for stage, differs in zip(BEFORE_FEATURES, before, strict=True):
        if differs:
            return stage, []
    if named := [name for name, differs in zip(features, of_features, strict=True) if differs]:
        return Stage.FEATURES, named
    return (Stage.RANKING, []) if changed[-1] else (None, [])


@njit(cache=True)
def _item_stats(
    available: np.ndarray,
    popularity: np.ndarray,
    trend: np.ndarray,
    trend_day: np.ndarray,
    trend_year: np.ndarray,
    positive_rate: np.ndarray,
    order: np.ndarray,
) -> np.uint64:
    total = _bytes(available)
    total = _chain(total, _words(popularity.view(np.uint32)))
    total = _chain(total, _words(trend.view(np.uint32)))
    total = _chain(total, _words(trend_day.view(np.uint32)))
    total = _chain(total, _words(trend_year.view(np.uint32)))
    total = _chain(total, _words(positive_rate.view(np.uint32)))
    return _chain(total, _words(order.view(np.uint32))) >> _HALF


@njit(cache=True)
def _retrieval(
    item_key: np.ndarray,
    ts_s: np.ndarray,
    verb: np.ndarray,
    length: np.ndarray,
    seen: np.ndarray,
    seen_count: np.ndarray,
    activity: np.ndarray,
    activity_s: np.ndarray,
    events: np.ndarray,
    positives: np.ndarray,
    item_stats: int,
    eligible: np.ndarray,
    vector: np.ndarray,
    indptr: np.ndarray,
    item: np.ndarray,
    sources: np.ndarray,
    retrieval_score: np.ndarray,
    source_score: np.ndarray,
) -> np.ndarray:
    """One call for all of it: in batches of one, handing arrays over takes longer than adding them up."""
    digests = np.empty((len(length), 4), np.uint32)
    for row in range(len(length)):
        used = length[row]  # slots in use only: how wide the columns are depends on the batch
        total = _words(item_key[row, :used].view(np.uint32))
        total = _chain(total, _words(ts_s[row, :used]))
        total = _chain(total, _words(verb[row, :used]))
        total = _chain(total, _words(seen[row, : seen_count[row]]))
        total = _chain(total, _words(activity[row].view(np.uint32)))
        total = _chain(total, np.uint64(activity_s[row]))
        total = _chain(total, np.uint64(events[row]))
        total = _chain(total, np.uint64(positives[row]))
        digests[row, 0] = total >> _HALF
        digests[row, 1] = item_stats
        digests[row, 2] = _bytes(eligible[row]) >> _HALF
        start, end = indptr[row], indptr[row + 1]
        total = _words(vector[row].view(np.uint32))
        total = _chain(total, _words(item[start:end].view(np.uint32)))
        total = _chain(total, _words(sources[start:end]))
        total = _chain(total, _words(retrieval_score[start:end].view(np.uint32)))
        for source in range(len(source_score)):
            total = _chain(total, _words(source_score[source, start:end].view(np.uint32)))
        digests[row, 3] = total >> _HALF
    return digests


@njit(cache=True)
def _ranking(columns: np.ndarray, score: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    digests = np.empty((len(indptr) - 1, len(columns) + 1), np.uint32)
    for row in range(len(digests)):
        start, end = indptr[row], indptr[row + 1]
        for feature in range(len(columns)):
            digests[row, feature] = _words(columns[feature, start:end].view(np.uint32)) >> _HALF
        digests[row, -1] = _words(score[start:end].view(np.uint32)) >> _HALF
    return digests


@njit(cache=True)
def _words(words: np.ndarray) -> np.uint64:
    """The sum over unsigned words of at most 32 bits; with their number, so that zeros at the end count."""
    total = np.uint64(len(words))
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK]
        part = np.uint64(0)
        for place in range(len(block)):
            part += np.uint64(block[place]) * _KEY[place]
        total = total * _STEP + part
    return total


@njit(cache=True)
def _bytes(values: np.ndarray) -> np.uint64:
    """Four bytes to the word: a quarter of the products."""
    whole = len(values) >> 2 << 2
    return _chain(_words(values[:whole].view(np.uint32)), _words(values[whole:]))


@njit(cache=True)
def _chain(total: np.uint64, part: np.uint64) -> np.uint64:
    """One number of two, in which their order counts."""
    mixed = (total * _STEP) ^ part
    return (mixed ^ (mixed >> _HALF)) * _STEP
