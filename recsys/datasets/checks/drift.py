"""How the newest events differ from as many before them."""

from collections.abc import Sequence

import numpy as np

from recsys.datasets.checks.finding import Finding, rows_at, verb_name
from recsys.datasets.checks.stability import STRONG, independent, stability
from recsys.datasets.checks.windows import Windows, first_places
from recsys.datasets.dataset import Dataset

HEAD, MID = 0.5, 0.9  # of the events: items that have the first half of them, those up to nine tenths, the rest
SHELVES = ("head", "mid", "tail", "not seen before")
HOUR_MS = 3_600_000


def drift(dataset: Dataset) -> list[Finding]:
    """Findings about what has changed; drift alone is at most a warning: people change, and training follows them."""
    windows = Windows.of(dataset)
    if windows is None:
        return [Finding("drift", "ok", "not checked: no times, or a fifth of the events is too little to compare")]
    return [
        _items_in_common(dataset, windows),
        _users_in_common(dataset, windows),
        *_Drift(dataset, windows).findings(),
    ]


class _Drift:
    """Histograms of both windows; each a row of counts by bin."""

    def __init__(self, dataset: Dataset, windows: Windows) -> None:
        self.dataset, self.windows = dataset, windows
        self.sizes = tuple(independent(dataset.events.user[one]) for one in (windows.previous, windows.newest))

    def findings(self) -> list[Finding]:
        events, windows = self.dataset.events, self.windows
        new_user = self._is_new(events.user, len(self.dataset.user_id))
        new_item = self._is_new(events.item, len(self.dataset.item_id))
        found = [
            self._of_bins("drift of verbs", events.verb, 256, [verb_name(verb) for verb in range(256)]),
            self._of_bins("drift of popularity", self._shelf(), len(SHELVES), SHELVES),
            self._of_bins(
                "drift of hours", events.ts_ms // HOUR_MS % 24, 24, [f"{hour:02d} h UTC" for hour in range(24)]
            ),
            self._of_bins("drift of new users", new_user, 2, ("events of known users", "events of new users")),
            self._of_bins("drift of new items", new_item, 2, ("events of known items", "events of new items")),
        ]
        per_user = [self._events_per_user(one) for one in (windows.previous, windows.newest)]
        users = float(per_user[0].sum()), float(per_user[1].sum())
        names = [f"{1 << power} to {(2 << power) - 1} events of a user" for power in range(32)]
        found.append(_finding("drift of events per user", per_user[0], per_user[1], users, names))
        if self.dataset.categories:
            category = [self._categories(one) for one in (windows.previous, windows.newest)]
            found.append(_finding("drift of categories", category[0], category[1], self.sizes, self.dataset.categories))
        return found

    def _of_bins(self, name: str, bins: np.ndarray, count: int, names: Sequence[str]) -> Finding:
        """bins: int [e], the bin of each event."""
        earlier, later = (
            np.bincount(bins[one], minlength=count) for one in (self.windows.previous, self.windows.newest)
        )
        return _finding(name, earlier, later, self.sizes, names)

    def _shelf(self) -> np.ndarray:
        """Head, mid, tail or unseen, by popularity before both windows, int64 [e].

        Ranked by the earlier window itself, its head would be there partly by luck, and smaller ever after (regression
        to the mean): a drift where nothing has moved.
        """
        item = self.dataset.events.item
        count = np.bincount(item[self.windows.before], minlength=len(self.dataset.item_id))
        order = np.argsort(-count, kind="stable")
        ahead = np.cumsum(count[order]) - count[order]  # events of more popular items
        shelf = np.empty(len(count), np.int64)
        shelf[order] = np.searchsorted(np.array([HEAD, MID]) * count.sum(), ahead, side="right")
        shelf[count == 0] = len(SHELVES) - 1
        return shelf[item]

    def _is_new(self, number: np.ndarray, size: int) -> np.ndarray:
        """1 where an event's user or item has no event before the event's window, int64 [e]."""
        first = first_places(number, size)[number]
        start = np.zeros(len(number), np.int64)
        for one in (self.windows.previous, self.windows.newest):
            start[one] = one.start
        return (first >= start).astype(np.int64)

    def _events_per_user(self, window: slice) -> np.ndarray:
        """Users by the power of two of their events, int64 [32]."""
        count = np.bincount(self.dataset.events.user[window])
        return np.bincount(np.log2(count[count > 0]).astype(np.int64), minlength=32)

    def _categories(self, window: slice) -> np.ndarray:
        """Events by category, float64 [categories]; an item of several counts in each of them."""
        dataset = self.dataset
        count = np.bincount(dataset.events.item[window], minlength=len(dataset.item_id))
        weight = np.repeat(count, np.diff(dataset.item_category_indptr))
        return np.bincount(dataset.item_category, weights=weight, minlength=len(dataset.categories))


def _finding(
    name: str, earlier: np.ndarray, later: np.ndarray, sizes: Sequence[float], names: Sequence[str]
) -> Finding:
    found = stability(earlier, later, (sizes[0], sizes[1]))
    numbers = {"psi": found.index, "noise": found.noise, "earlier": found.earlier, "later": found.later}
    moved = f"most moved: {names[found.moved]}, {found.earlier:.1%} before, {found.later:.1%} in the newest window"
    if not found.drifted:
        return Finding(name, "ok", f"PSI {found.index:.3f}, by chance up to {found.noise:.3f}; {moved}", numbers)
    strength = "strong drift" if found.index >= STRONG else "drift"
    return Finding(name, "warning", f"{strength}, PSI {found.index:.3f}; {moved}", numbers)


def _items_in_common(dataset: Dataset, windows: Windows) -> Finding:
    """Where no item of the newest events is known, no model can be asked for any: what a change of ids looks like."""
    share, known, total = _known(dataset.events.item, len(dataset.item_id), windows)
    sentence = f"{known:,} of {total:,} items of the newest window ({share:.1%}) have earlier events"
    if known:
        return Finding("items in common", "ok", sentence, {"items": total, "known": share})
    rows = rows_at(dataset, np.arange(windows.newest.start, windows.newest.stop))
    return Finding("items in common", "failure", f"{sentence}; were ids changed?", {"items": total, "known": 0}, rows)


def _users_in_common(dataset: Dataset, windows: Windows) -> Finding:
    share, known, total = _known(dataset.events.user, len(dataset.user_id), windows)
    sentence = f"{known:,} of {total:,} users of the newest window ({share:.1%}) have earlier events"
    if known:
        return Finding("users in common", "ok", sentence, {"users": total, "known": share})
    rows = rows_at(dataset, np.arange(windows.newest.start, windows.newest.stop))
    return Finding("users in common", "warning", f"{sentence}; were ids changed?", {"users": total, "known": 0}, rows)


def _known(number: np.ndarray, size: int, windows: Windows) -> tuple[float, int, int]:
    """Of the numbers in the newest window: the share of those with earlier events, how many that are, and all."""
    first = first_places(number, size)
    newest = np.flatnonzero(np.bincount(number[windows.newest], minlength=size))
    known = int((first[newest] < windows.newest.start).sum())
    return known / len(newest), known, len(newest)
