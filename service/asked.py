"""What waits in a gateway's queue, and what is read for it before its batch runs."""

from typing import NamedTuple

from service.lanes import Lane
from service.queries import Query


class Asked(NamedTuple):
    """What waits in the queue: whose state to read, the query, whether reasons are wanted, and what answers."""

    user_id: str
    query: Query
    reasons: bool
    lane: Lane


class State(NamedTuple):
    """What the lookup found: a packed state or None; why it could not be read; when it began, how long it took."""

    value: bytes | None
    cause: str | None
    began: float
    took_ms: float
