"""Events that are there more than once."""

import numpy as np

from recsys.datasets.checks.finding import Finding, rows_at
from recsys.datasets.dataset import Dataset

WARNING = 0.01  # of the events: as many as an import allows to be malformed; MovieLens and Gowalla have none
FAILURE = 0.5  # of the events: a file that was imported twice has just this


def duplicates(dataset: Dataset) -> Finding:
    """Events whose user, item, verb and time are those of an earlier one."""
    events = dataset.events
    order = np.lexsort((events.ts_ms, events.verb, events.item, events.user))
    same = np.ones(len(order) - 1, bool)
    for column in (events.user, events.item, events.verb, events.ts_ms):
        in_order = column[order]
        same &= in_order[1:] == in_order[:-1]
    repeats = np.sort(order[1:][same])
    share = len(repeats) / len(events)
    what = f"{len(repeats):,} of {len(events):,} events ({share:.1%})"
    sentence = f"{what} repeat an earlier one in user, item, verb and time"
    numbers = {"repeats": len(repeats), "share": share}
    if share <= WARNING:
        return Finding("duplicates", "ok", sentence, numbers)
    rows = rows_at(dataset, repeats)
    if share < FAILURE or dataset.timing == "none":  # without times, who does a thing twice leaves a repeat
        return Finding("duplicates", "warning", sentence, numbers, rows)
    return Finding("duplicates", "failure", f"{sentence}; was a file imported twice?", numbers, rows)
