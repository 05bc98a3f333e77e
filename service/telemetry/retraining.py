"""What the autopilot tells of itself: how its runs ended, and how long ago the last one did."""

import asyncio
import time
from collections import Counter
from datetime import datetime

from service import metrics
from service.autopilot.run import Run, Runs
from service.errors import AutopilotError
from service.telemetry.readings import Readings, Sums

LOOK_S = 60.0  # runs are files, and end once a day


class RetrainingWatch:
    """Looks at the runs of a home again and again.

    Attributes:
        ended: Runs by outcome. last_s: When the last one ended, the first began, or
            this did: the first of them that there is. UTC epoch seconds.
    """

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._looked = -LOOK_S
        self.ended: Counter[str] = Counter()
        self.last_s = time.time()

    def tell(self, readings: Readings) -> None:
        """Add it to the readings of its process."""
        readings.counts(metrics.RETRAINING, lambda: {"promoted": 0, "refused": 0, "failed": 0, **self.ended})
        readings.add(metrics.RETRAINING_AGE, self._age)

    async def look(self) -> None:
        """Read the runs, once in LOOK_S; where they cannot be read what was known holds."""
        if time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        try:
            runs = await asyncio.to_thread(self._runs.all)
        except (AutopilotError, OSError):
            return
        done = [run for run in runs if run.outcome]
        self.ended = Counter(str(run.outcome).replace(" ", "_") for run in done)
        self.last_s = max(map(_ended_s, done), default=runs[0].began_s if runs else self.last_s)

    def _age(self) -> Sums:
        """A run that seems to lie ahead was begun by a clock that was wrong: that is as old as it is far."""
        return {(): abs(time.time() - self.last_s)}


def _ended_s(run: Run) -> float:
    return datetime.fromisoformat(run.said[-1].time).timestamp() if run.said else run.began_s
