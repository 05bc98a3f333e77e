"""What is watched, in figures for a reader: the usual and the recent means, their distances, and the evidence."""

import msgspec
import numpy as np

from recsys.monitoring.reference import Reference
from recsys.monitoring.watch import Watcher

_LEAST = 1e-4  # share that an empty bin is taken to have, so that the logarithm is finite


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One series.

    Attributes:
        usual, now: Means of the reference and of the last rows, [K]. low, high: What is no drift, [K].
        psi: Population stability index of the components (Siddiqi, "Credit Risk Scorecards", 2006).
        ks: Largest distance of the distribution functions over the bins; 0 of what has no order.
        rows: Ever seen. evidence, threshold: The e-value, and from where on it is an alarm.
        alarm: Whether one is on.
    """

    kind: str
    subject: str
    segment: str
    components: list[str]
    usual: list[float]
    now: list[float]
    low: list[float]
    high: list[float]
    psi: float
    ks: float
    rows: int
    evidence: float
    threshold: float
    alarm: bool


ORDERED = ("feature", "score")


def figures_of(watcher: Watcher) -> list[Figure]:
    """Every series that has been seen and has something to be compared with."""
    found = []
    for key, one in watcher.series.items():
        tolerance = watcher.tolerance(key)
        rows = int(watcher.evidence.rows[one.of].max())
        if tolerance is None or not rows:
            continue
        usual, now = tolerance.usual, watcher.evidence.means(one.of)
        found.append(
            Figure(
                kind=key.kind,
                subject=key.subject,
                segment=key.segment,
                components=one.components,
                usual=_plain(usual),
                now=_plain(now),
                low=_plain(tolerance.low),
                high=_plain(tolerance.high),
                psi=psi(usual, now) if len(now) > 1 and key.kind != "quality" else 0.0,
                ks=float(np.abs(np.cumsum(now - usual)).max()) if key.kind in ORDERED else 0.0,
                rows=rows,
                evidence=watcher.evidence.value(one.of),
                threshold=watcher.threshold(key),
                alarm=bool(one.since_s),
            )
        )
    return found


def not_compared(watcher: Watcher) -> list[str]:
    """Series that were seen and have nothing to be compared with yet, by name."""
    return [
        f"{key.kind} {key.subject} ({key.segment})"
        for key, one in watcher.series.items()
        if watcher.evidence.rows[one.of].any() and watcher.tolerance(key) is None
    ]


def psi(usual: np.ndarray, now: np.ndarray) -> float:
    """Sum over bins of (q - p) ln(q / p), at least 0; shares, float64 [K]."""
    p, q = (np.maximum(np.nan_to_num(one), _LEAST) for one in (usual, now))
    return float(((q - p) * np.log(q / p)).sum())


def expected_distinct(reference: Reference, lists: int) -> float:
    """Different items that so many lists of the reference would show, between the spans that it knows."""
    spans = sorted(reference.distinct)
    return float(np.interp(np.log(max(lists, 1)), np.log(spans), [reference.distinct[one] for one in spans]))


def _plain(values: np.ndarray) -> list[float]:
    """For JSON: NaN has no place there, and 0 rows are said elsewhere."""
    return [round(float(one), 6) if np.isfinite(one) else 0.0 for one in values]
