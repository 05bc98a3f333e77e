"""One hour of service, and all the series that it says something of."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from recsys.bundle import Bundle
from recsys.monitoring.bins import Bins
from recsys.monitoring.measured import HEAD, Measured
from recsys.monitoring.segments import ALL, SEGMENTS, segment_of
from recsys.monitoring.series import SCORE, Key, Series, of_events, of_lists
from recsys.monitoring.watch import FRESH

BUSY = 60  # lists of one user in an hour: one a minute; more are hardly a person's
STALE_S = 3_600.0  # what happened so long before a list should have been known by then
EXAMINED = 0.7  # place r is looked at with r ** -EXAMINED where a bundle has not learnt it; the simulator's default
LEAST_EXAMINED = 0.1  # as in `training.position_bias`: no click counts for more than ten
SCORES = 5  # bins of the best score in which clicks are counted


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What came of the lists that were measured.

    Attributes:
        clicked: bool [b, HEAD], places as they were served. shown: int64 [b], places that there were.
    """

    clicked: np.ndarray
    shown: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Hour:
    """An hour of service under one bundle.

    Attributes:
        start_s: UTC epoch seconds.
        requests: int64 [users], lists of each user who asked.
        measured: Of the first list of each user, or of a sample of them, [b].
        placement: str [b]. outcomes: [b].
        item_age_s, state_age_s: float64 [b], how much older what a list was made of is than what had happened by then;
            NaN where nobody knows.
        event_user, event_item, event_verb: int64, int64 rows of the bundle or -1, uint8, [e]: what users did.
        rising: bool [N], by the item stats of the hour (`series.rising_of`); None where they are not known.
    """

    start_s: int
    requests: np.ndarray
    measured: Measured | None
    placement: np.ndarray
    outcomes: Outcomes
    item_age_s: np.ndarray
    state_age_s: np.ndarray
    event_user: np.ndarray
    event_item: np.ndarray
    event_verb: np.ndarray
    rising: np.ndarray | None


def series_of(
    hour: Hour, bundle: Bundle, bins: Mapping[str, Bins], shelf: np.ndarray, examination: np.ndarray
) -> Iterator[Series]:
    """All series of an hour.

    Args:
        shelf: As `series.shelf_of`. examination: float64 [HEAD], chance that each place is looked at.
    """
    if len(hour.requests):
        beyond = np.maximum(hour.requests - BUSY, 0).sum() / hour.requests.sum()
        yield Series(Key("traffic", "lists", ALL), ("beyond a person's",), np.array([[beyond]]), np.zeros(1, np.int64))
    if hour.measured is not None and len(hour.measured):
        several = len(set(hour.placement.tolist())) > 1 or hour.placement[0] != "default"
        yield from of_lists(bundle, bins, hour.measured, hour.placement if several else None)
        yield from _of_outcomes(hour.measured, hour.outcomes, bins[SCORE], examination)
        for subject, age_s in (("item_stats", hour.item_age_s), ("user_states", hour.state_age_s)):
            stale = np.where(np.isnan(age_s), np.nan, age_s > STALE_S)[:, None]
            yield Series(Key(FRESH, subject, ALL), ("stale",), stale, np.arange(len(stale)))
    if len(hour.event_user):
        yield from of_events(hour.event_user, hour.event_item, hour.event_verb, shelf, hour.rising)


def examined(learnt: tuple[float, ...]) -> np.ndarray:
    """The chance that each of the first HEAD places is looked at, float64 [HEAD], LEAST_EXAMINED to 1."""
    usual = np.array([place**-EXAMINED for place in range(1, HEAD + 1)])
    usual[: len(learnt)] = learnt[:HEAD]
    return np.maximum(usual, LEAST_EXAMINED)


def _of_outcomes(measured: Measured, outcomes: Outcomes, score: Bins, examination: np.ndarray) -> Iterator[Series]:
    any_click = np.asarray(outcomes.clicked.any(axis=1), np.float64)[:, None]
    columns = {
        "clicks": (("lists clicked",), any_click),
        "ndcg": (("NDCG",), weighed_ndcg(outcomes.clicked, outcomes.shown, examination)[:, None]),
        "calibration": _calibration(measured.score, any_click[:, 0], score),
    }
    segment = segment_of(measured.known)
    every = np.arange(len(measured))
    for part, rows in ((ALL, every), *((name, np.flatnonzero(segment == n)) for n, name in enumerate(SEGMENTS))):
        for subject, (components, values) in columns.items():
            yield Series(Key("quality", subject, part), components, values[rows], rows)


def weighed_ndcg(clicked: np.ndarray, shown: np.ndarray, examination: np.ndarray) -> np.ndarray:
    """NDCG of lists on their clicks, each weighed by the inverse of the chance that its place was looked at.

    The gain is unbiased under the position-based model (Joachims, Swaminathan & Schnabel, "Unbiased Learning-to-Rank
    with Biased Feedback", WSDM 2017); divided by the discounted gain of a list that is wanted throughout. float64 [b]
    in 0 to 1 (what little chance puts beyond is cut); NaN where nothing was shown.
    """
    discount = 1 / np.log2(np.arange(clicked.shape[1]) + 2.0)
    gain = (clicked / examination * discount).sum(axis=1)
    ideal = np.concatenate([[np.nan], np.cumsum(discount)])[np.minimum(shown, clicked.shape[1])]
    return np.minimum(gain / ideal, 1.0)


def _calibration(score: np.ndarray, clicked: np.ndarray, bins: Bins) -> tuple[tuple[str, ...], np.ndarray]:
    """Clicks by how high the best score is among those of the reference; other bins say nothing of a list."""
    inner = bins.edges[1:-1]
    cuts = np.quantile(inner, np.linspace(0, 1, SCORES + 1)[1:-1]) if inner else np.zeros(SCORES - 1)
    place = np.searchsorted(cuts, score, side="right")
    values = np.full((len(score), SCORES), np.nan)
    sound = np.flatnonzero(np.isfinite(score))
    values[sound, place[sound]] = clicked[sound]
    bounds = ["", *(f"{cut:.3g}" for cut in cuts), ""]
    return tuple(f"score {low} to {high}".strip() for low, high in pairwise(bounds)), values
