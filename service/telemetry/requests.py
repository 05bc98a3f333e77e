"""Every request that the edge answers: counted by route and status with its duration, and traced where it is sampled.

RED: rate, errors, duration, of each route. What nobody waited for any more is counted as 499.
"""

import logging
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from service.histogram import Histogram
from service.telemetry.trace import Sampler, Trace, current

# Seconds. 0.1 is a bound because the objective is that 99 % of the lists are at or below it.
BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNKNOWN = "none"  # the route of a request that has none, and the method of one that HTTP does not know
CLIENT_LEFT = 499
_log = logging.getLogger(__name__)


class _Seen(NamedTuple):
    """Of one method of a route."""

    by_status: dict[int, int]
    took_s: Histogram


class RequestWatch:
    """Counts requests, and takes a few from beginning to end.

    Args:
        sampler: Which of them are traced. keep: Takes a trace that is complete; must not wait.
    """

    def __init__(self, sampler: Sampler | None = None, keep: Callable[[Trace], None] = lambda _: None) -> None:
        self._begin, self._keep = (sampler or Sampler(0.0)).begin, keep
        self._seen: dict[tuple[str, str], _Seen] = {}

    def answered(self) -> dict[tuple[str, ...], int]:
        """Requests by method, route and status."""
        return {(*key, str(status)): n for key, seen in self._seen.items() for status, n in seen.by_status.items()}

    def took_s(self) -> dict[tuple[str, ...], Histogram]:
        """Their durations by method and route."""
        return {key: seen.took_s for key, seen in self._seen.items()}

    def began(self, headers: dict[bytes, bytes], raw: list[tuple[bytes, bytes]]) -> Trace | None:
        """A request has come; whoever answers a sampled one finds its trace in `trace.current`."""
        trace = self._begin(headers, raw)
        if trace is not None:
            current.set(trace)
        return trace

    def ended(
        self, trace: Trace | None, method: str, route: str, status: int, took_s: float, waited_s: float = 0.0
    ) -> None:
        """It has been answered, `took_s` after the edge had it, `waited_s` more after HAProxy had it. Cost: 1 us."""
        seen = self._seen.get((method, route)) or self._first(method, route)
        seen.by_status[status] = seen.by_status.get(status, 0) + 1
        seen.took_s.count(took_s + waited_s)
        if trace is not None:
            current.set(None)
            self._finish(trace, method, route, status, waited_s)

    def _first(self, method: str, route: str) -> _Seen:
        key = (method if method in METHODS else UNKNOWN), route
        return self._seen.setdefault(key, _Seen({}, Histogram(BOUNDS_S)))

    def _finish(self, trace: Trace, method: str, route: str, status: int, waited_s: float) -> None:
        trace.ended = monotonic()
        trace.began, trace.epoch_ns = trace.began - waited_s, trace.epoch_ns - round(waited_s * 1e9)
        trace.method, trace.route, trace.status = method, route, status
        self._keep(trace)
        _log.info(
            "%s %s: %d",
            *(method, route, status),
            extra={
                "trace_id": f"{trace.trace_id:032x}",
                "took_ms": round((trace.ended - trace.began) * 1e3, 3),
                **trace.facts,
            },
        )
