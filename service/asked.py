"""What waits in a gateway's queue, and what is read for it before its batch runs."""

from typing import NamedTuple

from service.lanes import Lane
from service.queries import Query
from service.telemetry.trace import Trace


class Asked(NamedTuple):
    """What waits in the queue: whose state to read, the query, whether reasons are wanted, what answers, and its trace
    where it is sampled."""

    user_id: str
    query: Query
    reasons: bool
    lane: Lane
    trace: Trace | None = None


class State(NamedTuple):
    """What the lookup found: a packed state or None; why it could not be read; when it began, how long it took."""

    value: bytes | None
    cause: str | None
    began: float
    took_ms: float
