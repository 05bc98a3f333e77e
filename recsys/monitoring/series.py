"""What is watched, as numbers from 0 to 1: one row for each list, or for each user and hour of events.

One list counts once, however many candidates it has, and a user at most once an hour: rows are then about independent,
as the bets of `evidence` need them, and who asks a thousand times an hour is one voice.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from recsys.bundle import Bundle
from recsys.features.matrix import FEATURES, NAMES
from recsys.monitoring.bins import Bins, one_of
from recsys.monitoring.measured import Measured
from recsys.monitoring.segments import ALL, SEGMENTS, segment_of
from recsys.types import ItemStats, Source
from recsys.verbs import Verb

SHELVES = ("head", "mid", "tail", "nobody liked", "not in the bundle")
HALF, MOST = 0.5, 0.9  # of the positives: items that have the first half of them are the head, up to MOST the mid
VERBS = (*(verb.name.lower() for verb in Verb), "own")
RISEN, LEAST = 2.0, 0.01
SCORE = "score"


class Key(NamedTuple):
    """Names what is watched; `segment` is ALL, one of SEGMENTS, or `placement <name>`."""

    kind: str
    subject: str
    segment: str


class Series(NamedTuple):
    """Values of one thing, float64 [n, K], NaN where a row says nothing; `row`: int64 [n], whose each is."""

    key: Key
    components: tuple[str, ...]
    values: np.ndarray
    row: np.ndarray


def bins_of(measured: Measured) -> dict[str, Bins]:
    """Bins of every feature, and of the score."""
    bins = {
        one.name: Bins.of(measured.matrix[:, place].astype(np.float64), one.default)
        for place, one in enumerate(FEATURES)
    }
    return bins | {SCORE: Bins.of(measured.score)}


def shelf_of(bundle: Bundle) -> np.ndarray:
    """The shelf of each item by its positives in what the bundle learnt from, int64 [N]."""
    popularity = bundle.item_stats.popularity.astype(np.float64)
    order = np.argsort(-popularity, kind="stable")
    ahead = np.cumsum(popularity[order]) - popularity[order]
    shelf = np.empty(len(order), np.int64)
    shelf[order] = np.searchsorted(np.array([HALF, MOST]) * popularity.sum(), ahead, side="right")
    shelf[popularity <= 0] = 3
    return shelf


def of_lists(
    bundle: Bundle, bins: Mapping[str, Bins], measured: Measured, placement: np.ndarray | None = None
) -> Iterator[Series]:
    """All that lists say, for all of them, for each segment and for each placement.

    Args:
        placement: [b] names; None where there is one.
    """
    segment = segment_of(measured.known)
    every = np.arange(len(measured))
    yield Series(Key("users", "segments", ALL), SEGMENTS, one_of(segment, len(SEGMENTS)), every)
    parts = [(ALL, every), *((name, np.flatnonzero(segment == place)) for place, name in enumerate(SEGMENTS))]
    names = [] if placement is None else sorted(set(placement.tolist()))
    parts += [(f"placement {name}", np.flatnonzero(placement == name)) for name in names]
    for kind, subject, components, values in _columns(bundle, bins, measured):
        for part, rows in parts:
            yield Series(Key(kind, subject, part), components, values[rows], rows)


def _columns(
    bundle: Bundle, bins: Mapping[str, Bins], measured: Measured
) -> Iterator[tuple[str, str, tuple[str, ...], np.ndarray]]:
    for place, name in enumerate(NAMES):
        yield "feature", name, bins[name].names, bins[name].shares(measured.matrix[:, place], measured.indptr)
    row = np.repeat(np.arange(len(measured)), np.diff(measured.indptr))
    sizes = np.maximum(np.diff(measured.indptr), 1)
    by = [
        np.bincount(row, (measured.sources >> source) & 1, minlength=len(measured)) / sizes
        for source in range(len(Source))
    ]
    yield "source", "candidates", tuple(one.name.lower() for one in Source), np.stack(by, axis=1)
    yield SCORE, "best", bins[SCORE].names, one_of(bins[SCORE].place(measured.score), len(bins[SCORE].names))
    shelf = np.where(measured.lists >= 0, shelf_of(bundle)[measured.lists], -1)
    filled = np.maximum((shelf >= 0).sum(axis=1), 1)
    on = np.stack([(shelf == one).sum(axis=1) / filled for one in range(len(SHELVES) - 1)], axis=1)
    yield "list", "popularity", SHELVES[:-1], on
    yield "list", "length", ("filled",), (measured.lists >= 0).mean(axis=1)[:, None]
    yield "list", "diversity", ("unlikeness",), _diversity(measured.lists, bundle.spectral.vector)[:, None]


def _diversity(lists: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """1 - the mean cosine of two different items, each list by itself, as `metrics.intra_list_diversity`: 0 to 1."""
    own = np.where((lists >= 0)[:, :, None], vector[lists], 0).astype(np.float64)
    length = np.sqrt((own * own).sum(axis=2, keepdims=True))
    own = np.divide(own, length, out=np.zeros_like(own), where=length > 0)
    shown, alike = (lists >= 0).sum(axis=1), (length[:, :, 0] > 0).sum(axis=1)
    pairs = shown * (shown - 1.0)
    total = own.sum(axis=1)
    cosine = (total * total).sum(axis=1) - alike
    return np.where(pairs > 0, np.clip(1 - cosine / np.maximum(pairs, 1), 0, 1), np.nan)


def rising_of(bundle: Bundle, stats: ItemStats) -> np.ndarray:
    """Items that had RISEN times their usual share of the positives in the last day, and LEAST more, bool [N].

    Usual is what the bundle learnt from; who counts as rising is known before the events that are then counted.
    """
    usual, day = (one.astype(np.float64) for one in (bundle.item_stats.popularity, stats.trend_day))
    usual, day = (one / max(float(one.sum()), 1e-9) for one in (usual, day))
    return day > RISEN * usual + LEAST


def of_events(
    user: np.ndarray, item: np.ndarray, verb: np.ndarray, shelf: np.ndarray, rising: np.ndarray | None
) -> Iterator[Series]:
    """What the events of one hour say: each user is a row, of shares that make up 1.

    Args:
        user: int [e], numbers. item: int [e], rows of the bundle, -1 for none of them. verb: uint8 [e].
        shelf: As `shelf_of`. rising: As `rising_of`; None where nobody knows.
    """
    users, row = np.unique(user, return_inverse=True)
    on = np.where(item >= 0, shelf[item], len(SHELVES) - 1)
    of = np.minimum(verb.astype(np.int64), len(VERBS)) - 1
    parts = [("popularity", SHELVES, on), ("verbs", VERBS, of)]
    if rising is not None:
        parts.append(("rising", ("others", "rising items"), np.where(item >= 0, rising[item], 0).astype(np.int64)))
    for subject, names, place in parts:
        counts = np.bincount(row * len(names) + place, minlength=len(users) * len(names)).reshape(-1, len(names))
        values = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        yield Series(Key("events", subject, ALL), names, values, users)
