"""Whether the columns are what the contract of a data set says; all other checks rely on it."""

from collections.abc import Sequence

import numpy as np

from recsys.datasets.checks.finding import Finding, Level, rows_at
from recsys.datasets.dataset import Dataset, Events
from recsys.datasets.fields import END_MS
from recsys.verbs import MAX_WEIGHT, Verb, event_types

_KNOWN = np.zeros(256, bool)
_KNOWN[list(Verb)] = True
_LEAST, _MOST = (event_types({"own": weight})["own"] for weight in (0, MAX_WEIGHT))
_KNOWN[_LEAST : _MOST + 1] = True


def schema(dataset: Dataset) -> list[Finding]:
    """Findings about single values; the first failure among the columns' lengths leaves the rest unread."""
    events = dataset.events
    lengths = {name: len(getattr(events, name)) for name in Events.__annotations__}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        return [Finding("columns", "failure", f"the columns are of different lengths: {shown}", lengths)]
    if not len(events):
        return [Finding("columns", "failure", "there is no event", lengths)]
    rating = events.verb == Verb.RATING
    return [
        _numbers(dataset, "user numbers", events.user, len(dataset.user_id)),
        _numbers(dataset, "item numbers", events.item, len(dataset.item_id)),
        _rows(dataset, "known verbs", ~_KNOWN[events.verb], "has a verb that is none of ours"),
        _rows(
            dataset,
            "range of timestamps",
            (events.ts_ms < 0) | (events.ts_ms >= END_MS),
            "has a timestamp outside 1970 to 2100",
        ),
        _rows(
            dataset,
            "order",
            np.diff(events.ts_ms, prepend=events.ts_ms[0]) < 0,
            "is earlier than the event before it in the log",
        ),
        _rows(dataset, "infinite values", np.isinf(events.value), "has an infinite value"),
        # No failure: interactions that were merged into another user come from a state, which keeps no values.
        _rows(
            dataset,
            "values of ratings",
            rating & np.isnan(events.value),
            "is a rating without a value (one that was merged into another user has none)",
            "warning",
        ),
        _unique("user ids", dataset.user_id),
        _unique("item ids", dataset.item_id),
    ]


def _numbers(dataset: Dataset, name: str, number: np.ndarray, size: int) -> Finding:
    return _rows(dataset, name, (number < 0) | (number >= size), f"has a number outside 0 to {size - 1:,}")


def _rows(dataset: Dataset, name: str, wrong: np.ndarray, what: str, level: Level = "failure") -> Finding:
    count, events = int(wrong.sum()), len(wrong)
    numbers = {"events": events, "wrong": count}
    if not count:
        return Finding(name, "ok", f"none of {events:,} events {what}", numbers)
    return Finding(name, level, f"{count:,} of {events:,} events: each {what}", numbers, rows_at(dataset, wrong))


def _unique(name: str, ids: Sequence[str]) -> Finding:
    repeats = len(ids) - len(set(ids))
    numbers = {"ids": len(ids), "repeats": repeats}
    if not repeats:
        return Finding(name, "ok", f"{len(ids):,} {name}, all different", numbers)
    return Finding(name, "failure", f"{repeats:,} of {len(ids):,} {name} stand there already", numbers)
