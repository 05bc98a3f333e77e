"""What a run of simulated users has counted so far."""

from bisect import bisect_left
from collections import Counter
from typing import Any

import numpy as np

from loadtest.open_loop import percentiles

WINDOW_S = 5.0
EVENTS_FROM = (0, 1, 5, 10, 20, 40, 80)  # where each group of users begins, by the events that their states know


class Tally:
    """Counts of lists, of events, and of what the truth says of both.

    Args:
        count: Items of a list.
    """

    def __init__(self, count: int) -> None:
        self.degraded = self.personalized = self.clicks = self.events_accepted = 0
        self.errors: Counter[str] = Counter()
        self.shown, self.clicked, self.expected = np.zeros(count), np.zeros(count), np.zeros(count)
        self.lists_by_events = np.zeros(len(EVENTS_FROM), int)
        self.served, self.popular, self.best = (np.zeros(len(EVENTS_FROM)) for _ in range(3))
        self._ended_s: list[float] = []
        self._latency_s: list[float] = []

    @property
    def lists(self) -> int:
        """Lists that came."""
        return int(self.lists_by_events.sum())

    def ended(self, at_s: float, latency_s: float) -> None:
        """A request for a list has ended, well or not. Seconds since the run began, and since the request was due."""
        self._ended_s.append(at_s)
        self._latency_s.append(latency_s)

    def list_came(self, *, degraded: bool, personalized: bool) -> None:
        """How a list was made."""
        self.degraded += degraded
        self.personalized += personalized

    def compared(self, events: int, *, served: float, popular: float, best: float) -> None:
        """Expected clicks of a list, of the popular one and of the best one, for a user with so many events."""
        group = bisect_left(EVENTS_FROM, events + 1) - 1
        self.lists_by_events[group] += 1
        self.served[group] += served
        self.popular[group] += popular
        self.best[group] += best

    def looked_at(self, clicked: np.ndarray, expected: np.ndarray) -> None:
        """A list was shown: clicks and their expectation by place, [k]."""
        self.shown[: len(clicked)] += 1
        self.clicked[: len(clicked)] += clicked
        self.expected[: len(clicked)] += expected
        self.clicks += int(clicked.sum())

    def recorded(self, *, accepted: int, refused: int) -> None:
        """What became of the events of a list."""
        self.events_accepted += accepted
        if refused:
            self.errors["events refused"] += refused

    def lately(self, now_s: float, window_s: float) -> tuple[float, dict[str, float]]:
        """Requests that ended per second, and their percentiles in ms, over the last `window_s`."""
        first = bisect_left(self._ended_s, now_s - window_s)
        latency_s = np.array(self._latency_s[first:])
        return len(latency_s) / min(window_s, max(now_s, 1e-9)), percentiles(latency_s)

    def by_position(self) -> list[dict[str, float]]:
        """Clicks by impression at each place, measured and expected of what was shown there."""
        shown = np.maximum(self.shown, 1)
        rows = zip(self.shown, self.clicked / shown, self.expected / shown, strict=True)
        return [
            {
                "position": place,
                "shown": int(shown),
                "ctr": round(float(ctr), 4),
                "expected_ctr": round(float(truth), 4),
            }
            for place, (shown, ctr, truth) in enumerate(rows, 1)
        ]

    def by_events(self) -> list[dict[str, float]]:
        """Mean expected clicks of the lists by the events that the user had; groups without a list are left out."""
        columns = {"served": self.served, "popular": self.popular, "best": self.best}
        return [
            {"events_from": start, "lists": int(lists)}
            | {name: round(float(column[group] / lists), 3) for name, column in columns.items()}
            for group, (start, lists) in enumerate(zip(EVENTS_FROM, self.lists_by_events, strict=True))
            if lists
        ]

    def summary(self, elapsed_s: float) -> dict[str, Any]:
        """Everything, for JSON."""
        lists = max(self.lists, 1)
        return {
            "duration_s": round(elapsed_s, 1),
            "lists": self.lists,
            "lists_per_s": round(self.lists / elapsed_s, 1),
            "latency_ms": percentiles(np.array(self._latency_s)),
            "errors": dict(self.errors),
            "degraded": self.degraded,
            "personalized_share": round(self.personalized / lists, 3),
            "events_accepted": self.events_accepted,
            "clicks_per_list": round(self.clicks / lists, 3),
            "by_position": self.by_position(),
            "by_events": self.by_events(),
        }
