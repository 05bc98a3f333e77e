"""What each process of the load generator counts beside Locust's statistics, and how it reaches the master."""

from collections import Counter
from dataclasses import dataclass, field
from math import ceil, floor, log10
from typing import Any


@dataclass
class Node:
    """One process that sends requests, since the run began.

    Attributes:
        lists: Lists that came. degraded: How many of them were degraded. causes: By stage and cause; a list may have
            several.
        late_ms: How late the event loop was, by milliseconds, a count each 20 ms.
        busiest: The largest share of one core that the process used for some seconds.
        ended: It has stopped its users, and this is all that it will count.
    """

    lists: int = 0
    degraded: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    late_ms: Counter[int] = field(default_factory=Counter)
    busiest: float = 0.0
    ended: bool = False

    def list_came(self, causes: list[str]) -> None:
        """Count a list, with what was degraded in it."""
        self.lists += 1
        self.degraded += bool(causes)
        self.causes.update(causes)

    def clear(self) -> None:
        """Begin anew."""
        vars(self).update(vars(Node()))

    def take(self) -> dict[str, Any]:
        """All that was counted since the last call, as a report for `add`; plain values, for Locust's messages."""
        taken, ended = dict(vars(self)), self.ended
        self.clear()
        self.ended = ended
        return {**taken, "causes": dict(taken["causes"]), "late_ms": dict(taken["late_ms"])}

    def add(self, report: dict[str, Any]) -> None:
        """Count what a worker reports."""
        self.lists += report["lists"]
        self.degraded += report["degraded"]
        self.causes.update(report["causes"])
        self.late_ms.update(report["late_ms"])
        self.busiest = max(self.busiest, report["busiest"])
        self.ended = report["ended"]


def percentile(histogram: dict[int, int], share: float) -> int:
    """The smallest value that at least `share` of the counts do not exceed; 0 of nothing."""
    counted, needed = 0, share * sum(histogram.values())
    for value in sorted(histogram):
        counted += histogram[value]
        if counted >= needed:
            return value
    return 0


def rounded_up(value: float) -> int:
    """A number for a histogram: whole, of three significant digits, never less than what it was."""
    unit = 10 ** max(0, floor(log10(value)) - 2) if value > 0 else 1
    return ceil(value / unit) * unit
