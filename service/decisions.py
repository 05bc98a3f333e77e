"""Decision records: enough of every answer to make it again, written after the answer, never in its way."""

import asyncio
import logging
from collections import Counter, deque
from typing import Any

import msgspec
from redis.exceptions import RedisError

from recsys.experiments.buckets import BUCKETS, bucket
from service.round_trips import RoundTrips

STREAM = "riffle:decisions"
FLUSH = 64  # records per round trip
PAUSE_S = 0.05  # between flushes of a short queue

_log = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode


class Interleaved(msgspec.Struct, frozen=True, kw_only=True):
    """How two lists became the one that was served.

    Attributes:
        experiment: Its name. variants: The two sides, the control first; one alone where the other failed: then the
            list is its own, and nothing else is here.
        team: Of each item, whose credit it is, as a place in `variants`; -1 where both would have put it there.
        propensities: Of each item, how probable it was in its place.
        lists: What each side would have answered alone, without the query, which is that of the whole.
    """

    experiment: str
    variants: list[str]
    team: list[int] = []
    propensities: list[float] = []
    lists: list["Decision"] = []


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One served list and everything that it depended on.

    Attributes:
        id: Recommendation id. kind: "recommendations" or "similar". time_ms: UTC epoch milliseconds.
        bundle, item_stats: Versions pinned for this request. candidates: Ranked, at least.
        variants: Of each experiment or rollout that the user was in. propensity: How probable just these were.
        overridden: Of these, what was not drawn but given to this user by hand.
        query: The request as decoded. user_state: Packed bytes as read, None if there was none.
        seed, now_s: As passed to `recommend`. items, scores: As served, best first.
        degraded, timing_ms: As answered.
        removed: Items of the bundle ruled out, by `filtering.Reason`. ranked: Candidates that the list is chosen from.
        explore: Share of lists that end with a new item. item_propensity: With which the last item was drawn from the
            new ones; 0 where it was not.
        diversity, quality: As passed to `recommend`; records from before have 0 and 1.
        digests: Of each stage, packed by `recsys.digests`. Records from before they were kept have none of the three.
        interleaved: Of a list that two variants drafted; what else is here of how it was made is of the first.
    """

    id: str
    kind: str
    time_ms: int
    bundle: str
    item_stats: str
    candidates: int
    propensity: float
    query: Any
    user_state: bytes | None
    seed: int
    now_s: int
    items: list[str]
    scores: list[float]
    degraded: list[dict[str, str]]
    timing_ms: dict[str, float]
    removed: list[int] = []
    ranked: int = 0
    variants: dict[str, str] = {}
    overridden: list[str] = []
    explore: float = 0.0
    item_propensity: float = 0.0
    diversity: float = 0.0
    quality: float = 1.0
    digests: bytes = b""
    interleaved: Interleaved | None = None

    def alone(self) -> list["Decision"]:
        """The records of all lists that `recommend` made for it: this one, or those that were drafted."""
        drafted = self.interleaved.lists if self.interleaved else []
        return [msgspec.structs.replace(one, query=self.query) for one in drafted] or [self]

    def counts(self, experiment: str) -> bool:
        """Whether it is a list of both sides of an interleaving, and nothing was wrong with it."""
        of = self.interleaved
        return of is not None and of.experiment == experiment and len(of.variants) == 2 and not self.degraded


class Asker(msgspec.Struct, frozen=True):
    """Of a query alone: whose list it asks for; None of items like others, which are nobody's."""

    user_id: str | None = None


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    """Of a decision record alone: what it is filed under in the archive."""

    id: str
    kind: str
    time_ms: int
    query: Asker


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a record whose user was forgotten: that there was an answer, and when."""

    id: str
    time_ms: int


def is_kept(user_id: str | None, seed: int, share: float) -> bool:
    """Whether an answer is recorded: all of a user, or none, so that rates of users are what they are.

    Args:
        user_id: None: nobody's, drawn by the seed. share: 0 to 1, in steps of 0.0001.
    """
    return share >= 1 or (seed % BUCKETS if user_id is None else bucket("decisions", user_id)) < share * BUCKETS


class DecisionLog:
    """A bounded queue in front of a Redis stream. A full queue or a failing stream drops records, and counts them.

    Args:
        store: Of its own: a slow stream must not take the lookups' connections.
        queue: Records held at most. stream_length: Approximate length at which the stream drops its oldest.
    """

    def __init__(self, store: RoundTrips, *, queue: int, stream_length: int) -> None:
        self._store = store
        self._queue: deque[Decision] = deque()
        self._limit = queue
        self._stream_length = stream_length
        self._task: asyncio.Task[None] | None = None
        self.counts: Counter[str] = Counter()  # "written", "dropped_full", "dropped_error"

    def put(self, decision: Decision) -> None:
        """Queue a record; costs no I/O. Needs a running event loop."""
        if len(self._queue) >= self._limit:
            self.counts["dropped_full"] += 1
            return
        self._queue.append(decision)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain())

    async def flush(self) -> None:
        """Wait until everything queued so far is written or dropped."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        try:
            while self._queue:
                if len(self._queue) < FLUSH:
                    await asyncio.sleep(PAUSE_S)
                records = [self._queue.popleft() for _ in range(min(FLUSH, len(self._queue)))]
                await self._write(records)
        finally:
            self._task = None

    async def _write(self, records: list[Decision]) -> None:
        commands = [
            ("XADD", STREAM, "MAXLEN", "~", str(self._stream_length), "*", "d", _encode(record)) for record in records
        ]
        try:
            replies = await self._store.call(commands)
        except (RedisError, OSError, TimeoutError) as error:
            replies = [error] * len(records)
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        if errors and not self.counts["dropped_error"]:
            _log.warning("decision records are being dropped: %s", str(errors[0]) or type(errors[0]).__name__)
        self.counts += Counter(written=len(replies) - len(errors), dropped_error=len(errors))
