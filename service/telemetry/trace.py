"""What is noted of a sampled request while it is answered: ids, times and facts. Spans are made of it later, elsewhere.

Whether a request is sampled is decided before anything is made for it, by its trace id (head sampling): one that is not
costs a random number and a comparison.
"""

import time
from collections.abc import Mapping
from contextvars import ContextVar
from random import Random

from service.telemetry.traceparent import HEADER, Parent, parse

_HALF = 1 << 64
_random = Random().getrandbits  # seeded by the system: ids are to be unique, not secret; secrets.randbits costs 1 us


class Batch:
    """A micro-batch with a sampled request in it: a trace of its own, which the traces of its requests link to."""

    __slots__ = ("began", "bundle", "ended", "members", "size", "span_id", "trace_id")

    def __init__(self, size: int, bundle: str, began: float) -> None:
        self.trace_id, self.span_id = _id(128), _id(64)
        self.size, self.bundle, self.began, self.ended = size, bundle, began, began
        self.members: list[tuple[int, int]] = []  # trace and span id of each sampled request


class Trace:
    """One sampled request.

    Attributes:
        trace_id, span_id: Of its own span. parent: The caller's span.
        began, ended: Monotonic seconds; `began` is when HAProxy had it. epoch_ns: The time at `began`.
        route, method, status: As the edge counts them. facts: Attributes of its span.
        stages: Name, begin and end of each stage, monotonic. batch: Where it was answered.
    """

    __slots__ = (
        *("batch", "began", "ended", "epoch_ns", "facts", "method", "parent", "route", "span_id", "stages"),
        *("status", "trace_id"),
    )

    def __init__(self, trace_id: int, parent: Parent | None) -> None:
        self.trace_id, self.span_id, self.parent = trace_id, _id(64), parent
        self.began = self.ended = time.monotonic()
        self.epoch_ns = time.time_ns()
        self.route = self.method = ""
        self.status = 0
        self.facts: dict[str, str | int | float | bool] = {}
        self.stages: list[tuple[str, float, float]] = []
        self.batch: Batch | None = None

    def at_ns(self, moment: float) -> int:
        """A moment of the monotonic clock as UTC epoch nanoseconds."""
        return self.epoch_ns + round((moment - self.began) * 1e9)


current: ContextVar[Trace | None] = ContextVar("trace", default=None)  # of the request that is being answered


class Sampler:
    """Decides which requests are traced.

    Args:
        share: Of requests without a caller's decision.
    """

    def __init__(self, share: float) -> None:
        self._below = round(share * _HALF)

    def begin(self, headers: Mapping[bytes, bytes], raw: list[tuple[bytes, bytes]]) -> Trace | None:
        """A trace where the request is sampled. Cost where it is not: about 0.3 us.

        Args:
            headers: By name. raw: All of them; a name may come twice.
        """
        if HEADER in headers and (parent := parse(raw)) is not None:
            return Trace(parent.trace_id, parent) if parent.sampled else None
        low = _random(64)
        if low >= self._below:
            return None
        return Trace(_id(64) << 64 | low, None)


def _id(bits: int) -> int:
    """A random id that is not 0, which would be no id."""
    return _random(bits) or 1
