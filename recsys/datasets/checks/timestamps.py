"""Whether the times of events are those of a clock, as they are said to be."""

import numpy as np

from recsys.datasets.checks.finding import Finding, moment, rows_at
from recsys.datasets.checks.windows import NEWEST
from recsys.datasets.dataset import Dataset

DAY_MS = 86_400_000
BUSIEST_SECOND = 0.01  # of the events; in MovieLens, where whole lists are rated at once, 0.09 %
BUSIEST_DAY = 0.25  # of the events; 7.9 % on MovieLens-1M, whose users came within months
LEAST_DAYS = 14  # of a log whose busiest day is judged: in a shorter one each day is a large part
GAP = 0.2  # of the time between the first and the last event; 5.6 % in 20 years of MovieLens latest-small
OUTLYING = 0.001  # of the events at either end may lie apart
APART = 0.1  # of the time that the others take, and a day: 0.1 % at most on MovieLens
FIRST_LOG_MS = 631_152_000_000  # 1990-01-01: a log that ends earlier is older than the Web


def timestamps(dataset: Dataset) -> list[Finding]:
    """Findings about times; one, that nothing was checked, where the data set does not claim any."""
    if dataset.timing != "exact":
        what = "only the order of a user's events" if dataset.timing == "order" else "neither times nor an order"
        return [Finding("timestamps", "ok", f"not checked: the data set has {what}")]
    ts_ms = dataset.events.ts_ms
    outlying = max(1, int(OUTLYING * len(ts_ms)))
    inner = slice(outlying, -outlying) if len(ts_ms) > 2 * outlying else slice(None)
    return [
        _temporal_split(dataset),
        _busiest(dataset, "busiest second", 1000, BUSIEST_SECOND, 0),
        _busiest(dataset, "busiest day", DAY_MS, BUSIEST_DAY, LEAST_DAYS),
        _dates(dataset),
        _end(dataset),
        _longest_gap(dataset, inner),
        *_outliers(dataset, inner),
    ]


def _temporal_split(dataset: Dataset) -> Finding:
    """As `Log.moment` divides it: what may be learnt from is before the second in which the newest part begins."""
    ts_s = dataset.events.ts_ms // 1000
    split_s = ts_s[min(int((1 - NEWEST) * len(ts_s)), len(ts_s) - 1)]
    past = int(np.searchsorted(ts_s, split_s))
    numbers = {"past": past, "events": len(ts_s)}
    at = moment(int(split_s) * 1000)
    if past:
        sentence = f"{past:,} of {len(ts_s):,} events are before {at}, where the newest fifth begins"
        return Finding("temporal split", "ok", sentence, numbers)
    same = int(np.searchsorted(ts_s, split_s, "right"))
    sentence = f"{same:,} of {len(ts_s):,} events have the earliest time, {at}: no moment divides past and future"
    return Finding("temporal split", "failure", sentence, numbers, rows_at(dataset, np.arange(same)))


def _busiest(dataset: Dataset, name: str, unit_ms: int, threshold: float, least_units: int) -> Finding:
    unit = dataset.events.ts_ms // unit_ms
    start = np.flatnonzero(np.diff(unit, prepend=unit[0] - 1))
    count = np.diff(start, append=len(unit))
    top = int(count.argmax())
    share = count[top] / len(unit)
    at = moment(int(unit[start[top]]) * unit_ms)
    sentence = f"{count[top]:,} of {len(unit):,} events ({share:.2%}) are in the {name}, {at}"
    numbers = {"events": int(count[top]), "share": share}
    # one event is a large part of a tiny log, and nothing is wrong with it
    if share <= threshold or count[top] < 2 or unit[-1] - unit[0] < least_units:
        return Finding(name, "ok", sentence, numbers)
    rows = rows_at(dataset, np.arange(start[top], start[top] + count[top]))
    return Finding(name, "warning", sentence, numbers, rows)


def _dates(dataset: Dataset) -> Finding:
    midnight = int((dataset.events.ts_ms % DAY_MS == 0).sum())
    sentence = f"{midnight:,} of {len(dataset.events):,} events are at midnight UTC to the millisecond"
    if midnight < len(dataset.events):
        return Finding("dates", "ok", sentence, {"midnight": midnight})
    return Finding(
        "dates", "warning", f"{sentence}: these are dates, the order within a day is not known", {"midnight": midnight}
    )


def _end(dataset: Dataset) -> Finding:
    """Seconds that were divided by a thousand end in January 1970."""
    last = len(dataset.events) - 1
    end_ms = int(dataset.events.ts_ms[last])
    sentence, numbers = f"the last event is of {moment(end_ms)}", {"ts_ms": end_ms}
    if end_ms >= FIRST_LOG_MS:
        return Finding("end of the log", "ok", sentence, numbers)
    rows = rows_at(dataset, np.array([last]))
    return Finding("end of the log", "warning", f"{sentence}: in another unit than it says?", numbers, rows)


def _longest_gap(dataset: Dataset, inner: slice) -> Finding:
    ts_ms = dataset.events.ts_ms[inner]
    gap_ms = np.diff(ts_ms)
    span_ms = int(ts_ms[-1] - ts_ms[0])
    if not span_ms:
        return Finding("longest gap", "ok", "all events but outliers are at one time: there is no gap")
    widest = int(gap_ms.argmax())
    share = gap_ms[widest] / span_ms
    begin, end = moment(int(ts_ms[widest])), moment(int(ts_ms[widest + 1]))
    sentence = f"the longest time without an event is {share:.1%} of the log's, from {begin} to {end}"
    if share <= GAP or gap_ms[widest] <= DAY_MS:
        return Finding("longest gap", "ok", sentence, {"share": share})
    at = (inner.start or 0) + widest
    return Finding("longest gap", "warning", sentence, {"share": share}, rows_at(dataset, np.array([at, at + 1])))


def _outliers(dataset: Dataset, inner: slice) -> list[Finding]:
    """Events far from all but OUTLYING of the others; there is no clock here to say what is in the future."""
    ts_ms = dataset.events.ts_ms
    first, last = int(ts_ms[inner][0]), int(ts_ms[inner][-1])
    apart_ms = max(APART * (last - first), DAY_MS)
    late, early = ts_ms > last + apart_ms, ts_ms < first - apart_ms
    return [
        _apart(dataset, "future events", late, f"after {moment(last)}, by when the others have happened"),
        _apart(dataset, "early events", early, f"before {moment(first)}, when the others begin"),
    ]


def _apart(dataset: Dataset, name: str, apart: np.ndarray, what: str) -> Finding:
    count = int(apart.sum())
    sentence = f"{count:,} of {len(apart):,} events are far {what}"
    return Finding(name, "warning" if count else "ok", sentence, {"events": count}, rows_at(dataset, apart))
