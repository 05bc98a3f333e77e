"""The newest events of a log and those before them."""

from dataclasses import dataclass

import numpy as np

from recsys.datasets.dataset import Dataset

NEWEST = 0.2  # of the events: what a temporal split asks where nothing else is said (`held_out`)
LEAST_EVENTS = 100  # of a window: below, a share is known to 10 points at best (two standard errors)


@dataclass(frozen=True, slots=True)
class Windows:
    """Places of events. `previous` has as many events as `newest`: as much time would often hold none."""

    before: slice
    previous: slice
    newest: slice

    @classmethod
    def of(cls, dataset: Dataset) -> "Windows | None":
        """None where there are no times, or too few events."""
        events = len(dataset.events)
        size = int(NEWEST * events)
        if dataset.timing != "exact" or size < LEAST_EVENTS:
            return None
        return cls(slice(0, events - 2 * size), slice(events - 2 * size, events - size), slice(events - size, events))


def first_places(number: np.ndarray, size: int) -> np.ndarray:
    """Place of each number's first event, int64 [size]; the count of events where it has none. number: int [e]."""
    first = np.full(size, len(number), np.int64)
    first[number[::-1]] = np.arange(len(number) - 1, -1, -1)  # the last assignment stays
    return first
