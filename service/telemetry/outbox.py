"""Traces that wait to be sent: as many as fit, the others are dropped and counted. Nobody on the request path waits."""

from collections import Counter, deque

from service.telemetry.trace import Trace

LIMIT = 2_048  # traces; about 3 MB


class Outbox:
    """A bounded queue between the event loop and the thread that sends.

    Attributes:
        counts: Traces "kept", and "dropped" because the queue was full.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._traces: deque[Trace] = deque()  # append and popleft are atomic
        self._limit = limit
        self.counts: Counter[str] = Counter(kept=0, dropped=0)

    def put(self, trace: Trace) -> None:
        """Keep it, or drop it where the queue is full."""
        if len(self._traces) >= self._limit:
            self.counts["dropped"] += 1
            return
        self.counts["kept"] += 1
        self._traces.append(trace)

    def take(self, most: int) -> list[Trace]:
        """The oldest ones."""
        taken: list[Trace] = []
        while len(taken) < most and self._traces:
            taken.append(self._traces.popleft())
        return taken
