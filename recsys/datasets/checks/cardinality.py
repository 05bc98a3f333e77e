"""How many users and items there are, how the events fall on them, and whether one of them has far too many."""

import numpy as np

from recsys.datasets.checks.finding import Finding, rows_at
from recsys.datasets.dataset import Dataset

LEAST = 2  # users, and items with events: with one there is nothing to tell apart, and no interval over users
# Of all events, with the 99th percentile of the others as the measure of what is usual here: the heaviest user of
# MovieLens latest-small has 2.4 % of the events, twice that percentile; its and MovieLens-1M's top item 0.4 %, thrice.
SHARE = {"user": 0.01, "item": 0.1}
TIMES = 10
SINGLE = 0.8  # of the users have one event, which teaches no step from one item to the next
UNUSED = 0.5  # of the catalogue; 5.7 % on MovieLens-1M


def cardinality(dataset: Dataset) -> list[Finding]:
    """Findings about users and items."""
    user = np.bincount(dataset.events.user, minlength=len(dataset.user_id))
    item = np.bincount(dataset.events.item, minlength=len(dataset.item_id))
    single = int((user == 1).sum())
    share = single / max(int((user > 0).sum()), 1)
    unused = int((item == 0).sum())
    return [
        _spread(dataset, "user", user),
        _spread(dataset, "item", item),
        _dominating(dataset, "user", user),
        _dominating(dataset, "item", item),
        Finding(
            "users of one event",
            "warning" if share > SINGLE else "ok",
            f"{single:,} users ({share:.1%}) have a single event",
            {"users": single, "share": share},
        ),
        Finding(
            "items without events",
            "warning" if unused > UNUSED * len(item) else "ok",
            f"{unused:,} of {len(item):,} items ({unused / len(item):.1%}) have no event",
            {"items": unused, "share": unused / len(item)},
        ),
    ]


def _spread(dataset: Dataset, name: str, count: np.ndarray) -> Finding:
    used = np.sort(count[count > 0])
    median, p99, largest = (int(used[int(at * (len(used) - 1))]) for at in (0.5, 0.99, 1))
    numbers = {f"{name}s": len(used), "median": median, "p99": p99, "max": largest}
    sentence = (
        f"{len(used):,} {name}s with events; of each: median {median:,}, 99th percentile {p99:,}, most {largest:,}"
    )
    if len(used) >= LEAST:
        return Finding(f"{name}s", "ok", sentence, numbers)
    return Finding(
        f"{name}s",
        "failure",
        f"{sentence}; {LEAST} {name}s are needed",
        numbers,
        rows_at(dataset, np.arange(len(dataset.events))),
    )


def _dominating(dataset: Dataset, name: str, count: np.ndarray) -> Finding:
    """A robot, or a default value in place of an id."""
    top = int(count.argmax())
    others = np.sort(count[(count > 0) & (np.arange(len(count)) != top)])
    usual = int(others[int(0.99 * (len(others) - 1))]) if len(others) else int(count[top])
    share = count[top] / len(dataset.events)
    sentence = (
        f"one {name} has {share:.1%} of the events, {count[top] / usual:.1f} times the 99th percentile of the others"
    )
    numbers = {"share": share, "times": count[top] / usual}
    if share <= SHARE[name] or count[top] <= TIMES * usual:
        return Finding(f"heaviest {name}", "ok", sentence, numbers)
    rows = rows_at(dataset, getattr(dataset.events, name) == top)
    return Finding(f"heaviest {name}", "warning", sentence, numbers, rows)
