"""What the load generator costs itself: how late its event loop is, and how much of a core its process uses.

A late loop notices answers late, so its lateness is in every latency that it measures; a process that has no more of
its core sends less than it was told to. Neither is a property of the service.
"""

import time
from collections import deque
from math import ceil

import gevent

from loadtest.locust_nodes import Node

TICK_S = 0.02
CPU_EVERY_S = 0.5
CPU_WINDOW_S = 5.0  # one that averages over a whole spike would not see it


class GeneratorWatch:
    """A greenlet that is due every 20 ms and counts how late it came, into a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> None:
        """Begin to watch; once more has no effect."""
        if not self._greenlet:
            self._cpu: deque[tuple[float, float]] = deque([(time.perf_counter(), time.process_time())])
            self._greenlet = gevent.spawn(self._watch)

    def stop(self) -> None:
        """Cease to watch; the last seconds count, however few they were."""
        if self._greenlet:
            self._greenlet.kill()
            self._greenlet = None
            self._see_cpu(time.perf_counter(), ending=True)

    def _watch(self) -> None:
        now = time.perf_counter()
        due, cpu_due = now + TICK_S, now + CPU_EVERY_S
        while True:
            gevent.sleep(max(0.0, due - now))
            now = time.perf_counter()
            while due <= now:  # each moment that it should have come: one long stall is many of them
                self._node.late_ms[ceil((now - due) * 1e3)] += 1
                due += TICK_S
            if now >= cpu_due:
                self._see_cpu(now)
                cpu_due = now + CPU_EVERY_S

    def _see_cpu(self, now: float, *, ending: bool = False) -> None:
        """The share of a core over the window that ends now; of a shorter run, over all of it at its end."""
        self._cpu.append((now, time.process_time()))
        (began, before), (_, used) = self._cpu[0], self._cpu[-1]
        if now - began >= CPU_WINDOW_S or (ending and now > began):
            self._node.busiest = max(self._node.busiest, (used - before) / (now - began))
        while len(self._cpu) > 1 and now - self._cpu[1][0] >= CPU_WINDOW_S:
            self._cpu.popleft()
