"""How late the event loop wakes up: everything that a process does in it waits that long."""

import asyncio
from time import monotonic

from service.histogram import Histogram

EVERY_S = 0.25
BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class LoopLag:
    """Looks four times a second. late_s: What it saw."""

    def __init__(self) -> None:
        self.late_s = Histogram(BOUNDS_S)

    async def look(self) -> None:
        """For ever."""
        while True:
            due = monotonic() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self.late_s.count(max(monotonic() - due, 0.0))
